"""Plans: which conversations, when, and which options contradict each other."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_cli.bench.measure import Goals
from stoker_cli.bench.plan import Due, Plan, limit_requests, parse_seconds
from stoker_cli.bench.trace import Row
from stoker_cli.bench.workload import WORKLOADS, Conversation, Prompts, Turn

PLAN = Plan(WORKLOADS["short"], Goals(2.0, 0.05))
PROMPTS = Prompts(WORKLOADS["short"], 0, "run")
ROWS = (Row(0.0, 10, 5), Row(4.0, 20, 6), Row(9.0, 30, 7))


def talk(num_turns: int) -> Due:
    return Due(Conversation((Turn("hello", 1),) * num_turns))


@given(st.lists(st.integers(1, 7), min_size=1), st.integers(1, 50))
def test_requests_are_counted_by_turns(lengths: list[int], num_requests: int) -> None:
    kept = list(limit_requests(map(talk, lengths), num_requests))
    turns = [len(due.conversation.turns) for due in kept]
    assert sum(turns) == min(num_requests, sum(lengths))
    assert turns[:-1] == lengths[: len(turns) - 1]


def test_an_open_loop_ends_with_its_duration() -> None:
    plan = replace(PLAN, rate=2.0, burstiness=0.0, duration_s=2.0)
    assert [due.at_s for due in plan.schedule(PROMPTS)] == [0, 0.5, 1.0, 1.5]
    assert plan.is_open
    assert plan.expected_requests is None


def test_arrivals_are_the_same_in_every_run_of_a_plan() -> None:
    plan = replace(PLAN, rate=2.0, num_requests=20)
    other = replace(PROMPTS, tag="another run")
    one, two = ([due.at_s for due in plan.schedule(prompts)] for prompts in (PROMPTS, other))
    assert one == two
    assert len(one) == 20


def test_a_closed_loop_goes_on_until_somebody_stops_it() -> None:
    dues = itertools.islice(PLAN.schedule(PROMPTS), 3)
    assert [due.conversation for due in dues] == [PROMPTS.make(n) for n in range(3)]
    assert not PLAN.is_open


def test_a_trace_is_replayed_at_its_speed() -> None:
    plan = replace(PLAN, trace=ROWS, speed=2.0)
    assert [due.at_s for due in plan.schedule(PROMPTS)] == [0, 2.0, 4.5]
    assert plan.expected_requests == 3
    cut = replace(plan, duration_s=3.0)
    assert len(list(cut.schedule(PROMPTS))) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rate": 0.0}, "--rate must be above 0, was 0"),
        ({"rate": float("nan")}, "--rate must be above 0"),
        ({"concurrency": 0}, "--concurrency must be above 0"),
        ({"num_requests": -1}, "--requests must be above 0"),
        ({"duration_s": 0.0}, "--duration must be above 0"),
        ({"speed": 0.0}, "--speed must be above 0"),
        ({"rate": 1.0, "burstiness": -1.0}, "--burstiness must be at least 0"),
        ({"rate": 1.0, "trace": ROWS}, "--trace has its own arrivals"),
    ],
)
def test_options_without_sense_are_refused_by_name(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        replace(PLAN, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2s", 2), ("50ms", 0.05), ("5m", 300), ("1.5", 1.5), (" 0.5 s ", 0.5), ("1h30m", 5400)],
)
def test_times_are_read_with_their_unit(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-1s", "2d", "1,5s", "nan", "1e3"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a duration such as"):
        parse_seconds(text)
