"""Plans: which pods to make, which to drain, in which order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.failure import FailureMemory
from stoker_operator.decide.observed import Failure, Observed, ObservedPod
from stoker_operator.decide.rollout import SURGE_PATIENCE_S, Plan, pick_victims, plan_rollout
from support.builders import (
    OLD,
    TEMPLATE,
    make_failed,
    make_observed,
    make_old,
    make_pod,
    make_ready,
)

FINE = FailureMemory(generation=1)
NOW = 100.0


def _plan(
    wanted: int, *pods: ObservedPod, failures: FailureMemory = FINE, problem: Failure | None = None
) -> Plan:
    return plan_rollout("chat", wanted, make_observed(*pods, problem=problem), failures, NOW)


def _names(pods: tuple[ObservedPod, ...]) -> list[str]:
    return [pod.name for pod in pods]


def test_makes_what_is_missing_under_the_smallest_free_names() -> None:
    plan = _plan(3, make_ready("chat-new00000-1"))
    assert plan == Plan(create=("chat-new00000-0", "chat-new00000-2"))


def test_nothing_to_do() -> None:
    assert _plan(1, make_ready()) == Plan()


def test_a_terminating_pod_keeps_its_name_and_counts_for_nothing_else() -> None:
    plan = _plan(1, make_ready(terminating=True))
    assert plan.create == ("chat-new00000-1",)


def test_takes_the_emptiest_then_the_unready_then_the_youngest() -> None:
    busy_young = make_ready("chat-new00000-0", running=1, created_at=9)
    empty_old = make_ready("chat-new00000-1", created_at=1)
    empty_young = make_ready("chat-new00000-2", created_at=5)
    starting = make_pod("chat-new00000-3", created_at=2)
    pods = (busy_young, empty_old, empty_young, starting)
    assert _names(_plan(3, *pods).delete) == ["chat-new00000-3"]
    assert _names(_plan(2, *pods).delete) == ["chat-new00000-3", "chat-new00000-2"]
    assert _names(_plan(1, *pods).delete)[-1] == "chat-new00000-1"
    assert len(_plan(0, *pods).delete) == 4


def test_a_rollout_starts_one_extra_pod_and_drains_nothing() -> None:
    assert _plan(2, make_old("a"), make_old("b")) == Plan(create=("chat-new00000-0",))


def test_a_rollout_drains_one_old_pod_for_each_that_is_ready() -> None:
    plan = _plan(2, make_old("a", running=3), make_old("b"), make_ready())
    assert _names(plan.delete) == ["b"]
    assert plan.create == ("chat-new00000-1",)


def test_a_rollout_waits_for_the_pod_that_starts() -> None:
    assert _plan(2, make_old("a"), make_old("b"), make_pod()) == Plan()


def test_a_rollout_ends_with_the_last_old_pod() -> None:
    assert _names(_plan(1, make_old("a"), make_ready()).delete) == ["a"]


def test_old_pods_that_do_not_serve_are_replaced_at_once() -> None:
    failed = make_old("a", ready=False, failure=Failure("CheckpointBroken", ""))
    starting = make_old("b", ready=False)
    plan = _plan(2, failed, starting)
    assert _names(plan.delete) == ["a", "b"]
    assert plan.create == ("chat-new00000-0", "chat-new00000-1")


def test_without_room_for_an_extra_pod_an_old_one_goes_first() -> None:
    stuck = make_pod(unschedulable="no GPU", unschedulable_at=NOW - 1, scheduled=False)
    waiting = _plan(1, make_old("a"), stuck)
    assert waiting == Plan(wake_at=NOW - 1 + SURGE_PATIENCE_S)
    patient = make_pod(
        unschedulable="no GPU", unschedulable_at=NOW - SURGE_PATIENCE_S, scheduled=False
    )
    assert _names(_plan(1, make_old("a"), patient).delete) == ["a"]
    draining = make_old("b", terminating=True)
    assert _plan(2, make_old("a"), make_old("c"), patient, draining).delete == ()


def test_old_pods_go_first_when_fewer_are_wanted() -> None:
    plan = _plan(1, make_old("a"), make_old("b"), make_pod())
    assert _names(plan.delete) == ["b"] or _names(plan.delete) == ["a"]


def test_a_failed_pod_stays_to_be_looked_at_until_the_next_try() -> None:
    waiting = FailureMemory(1, attempts=1, retry_at=NOW + 5)
    assert _plan(1, make_failed(), failures=waiting) == Plan(wake_at=NOW + 5)
    due = FailureMemory(1, attempts=1, retry_at=NOW)
    plan = _plan(1, make_failed(), failures=due)
    assert _names(plan.delete) == ["chat-new00000-0"]
    assert plan.create == ("chat-new00000-1",)


def test_a_failed_model_is_not_made_again_before_its_time_even_at_zero() -> None:
    waiting = FailureMemory(1, attempts=3, retry_at=NOW + 20)
    assert _plan(1, failures=waiting) == Plan(wake_at=NOW + 20)


def test_one_failed_pod_does_not_hinder_the_growth_of_a_model_that_serves() -> None:
    waiting = FailureMemory(1, attempts=1, retry_at=NOW + 5)
    plan = _plan(3, make_ready(), make_failed("chat-new00000-1"), failures=waiting)
    assert plan.create == ("chat-new00000-2",)


def test_what_the_kubelet_retries_is_left_alone() -> None:
    pulling = make_pod(failure=Failure("ImagePullFailed", "", final=False))
    assert _plan(1, pulling) == Plan()


def test_a_failing_rollout_leaves_the_old_pods_serving() -> None:
    waiting = FailureMemory(1, attempts=1, retry_at=NOW + 5)
    starting = make_old("b", ready=False)
    plan = _plan(2, make_old("a"), starting, make_failed(), failures=waiting)
    assert plan == Plan(wake_at=NOW + 5)


def test_a_problem_makes_no_pod_and_keeps_those_that_serve() -> None:
    problem = Failure("ClaimNotFound", "")
    assert _plan(2, make_old("a"), problem=problem) == Plan()
    assert _names(_plan(0, make_old("a"), problem=problem).delete) == ["a"]


pods = st.lists(
    st.builds(
        make_pod,
        name=st.integers(0, 8).map(lambda n: f"chat-{TEMPLATE}-{n}"),
        template=st.sampled_from([TEMPLATE, OLD]),
        ready=st.booleans(),
        terminating=st.booleans(),
        running=st.integers(0, 3),
        failure=st.sampled_from([None, Failure("CheckpointBroken", "")]),
    ),
    max_size=8,
    unique_by=lambda pod: pod.name,
)


def _apply(observed: Observed, plan: Plan) -> Observed:
    gone = {pod.name for pod in plan.delete}
    kept = [pod for pod in observed.pods if pod.name not in gone]
    return make_observed(*kept, *(make_ready(name) for name in plan.create))


@given(pods, st.integers(0, 5))
def test_steps_end_at_the_wanted_pods_of_the_wanted_template(
    start: list[ObservedPod], wanted: int
) -> None:
    observed = make_observed(*(pod for pod in start if not pod.failed or not pod.ready))
    for _ in range(20):
        observed = _apply(observed, plan_rollout("chat", wanted, observed, FINE, NOW))
        up = [pod if pod.failure else make_ready(pod.name) for pod in observed.pods]
        observed = make_observed(
            *(
                p if o.template == OLD or o.terminating else u
                for p, o, u in zip(observed.pods, observed.pods, up, strict=True)
            )
        )
    assert len(observed.live) == wanted
    assert all(pod.template == TEMPLATE for pod in observed.live)


@given(pods, st.integers(0, 5))
def test_a_step_never_has_more_than_one_pod_too_many_nor_drains_below_the_wanted(
    start: list[ObservedPod], wanted: int
) -> None:
    observed = make_observed(*start)
    plan = plan_rollout("chat", wanted, observed, FINE, NOW)
    left = _apply(observed, plan)
    if plan.create:
        assert len(left.live) <= wanted + 1
    ready_left = sum(pod.ready for pod in observed.live if pod not in plan.delete)
    assert ready_left >= min(wanted, observed.ready)
    taken = {pod.name for pod in observed.pods}
    assert not taken & set(plan.create)


def test_the_cache_that_spares_least_goes_first_and_age_decides_between_equals() -> None:
    pods = [
        make_ready("hot-and-young", created_at=9, warm_tokens=40_000),
        make_ready("cold-and-old", created_at=1, warm_tokens=100),
        make_ready("warm-and-old", created_at=2, warm_tokens=9_000),
    ]
    order = [pod.name for pod in pick_victims(pods, 3, TEMPLATE)]
    assert order == ["cold-and-old", "warm-and-old", "hot-and-young"]
    nearly = [make_ready("a", created_at=1, warm_tokens=9_000)]
    nearly.append(make_ready("b", created_at=2, warm_tokens=9_900))
    assert [pod.name for pod in pick_victims(nearly, 1, TEMPLATE)] == ["b"]
    busy = make_ready("busy", running=1)
    assert pick_victims([busy, pods[0]], 1, TEMPLATE) == (pods[0],)
