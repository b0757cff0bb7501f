"""Who is computed when, and that it makes no difference to what comes out.

Without a prefix cache (test_prefix has one); the properties at the end hold with and without.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker_runtime.schedule.blocks import BlockPool
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence
from support.hash_model import (
    EOS,
    VOCAB,
    HashModel,
    answer_alone,
    make_scheduler,
    make_sequence,
    step_shape,
)


def test_idles_without_work() -> None:
    scheduler = make_scheduler()
    assert scheduler.schedule() is None
    assert not scheduler.has_work


def test_cuts_a_long_prompt_into_chunks() -> None:
    model = HashModel(make_scheduler(max_batched_tokens=8))
    model.scheduler.add(make_sequence("a", 20))
    shapes = [step_shape(model.advance()) for _ in range(4)]
    assert shapes == [[("a", 0, 8)], [("a", 8, 16)], [("a", 16, 20)], [("a", 20, 21)]]


def test_decodes_go_before_prefills() -> None:
    model = HashModel(make_scheduler(max_batched_tokens=8))
    model.scheduler.add(make_sequence("a", 3))
    model.advance()
    model.scheduler.add(make_sequence("b", 20))
    assert step_shape(model.advance()) == [("a", 3, 4), ("b", 0, 7)]
    assert step_shape(model.advance()) == [("a", 4, 5), ("b", 7, 14)]


def test_leftover_budget_goes_to_the_next_in_line() -> None:
    scheduler = make_scheduler(max_batched_tokens=8)
    for id, length in [("a", 3), ("b", 3), ("c", 9)]:
        scheduler.add(make_sequence(id, length))
    assert step_shape(scheduler.schedule()) == [("a", 0, 3), ("b", 0, 3), ("c", 0, 2)]


def test_runs_no_more_than_allowed() -> None:
    model = HashModel(make_scheduler(max_num_seqs=2, max_batched_tokens=8))
    for id in "abc":
        model.scheduler.add(make_sequence(id, 2, max_tokens=3))
    model.advance()
    assert (model.scheduler.num_running, model.scheduler.num_waiting) == (2, 1)
    model.finish()
    assert list(model.done) == ["a", "b", "c"]


def test_nobody_overtakes_a_waiting_giant() -> None:
    scheduler = make_scheduler(num_blocks=10, block_size=1, max_batched_tokens=16)
    scheduler.add(make_sequence("a", 4))
    scheduler.schedule()
    scheduler.add(make_sequence("giant", 8))
    scheduler.add(make_sequence("tiny", 1))
    scheduler.schedule()
    assert [scheduler.num_running, scheduler.num_waiting] == [1, 2]


def test_newcomers_leave_a_block_for_each_running_one() -> None:
    scheduler = make_scheduler(num_blocks=6, block_size=1, max_batched_tokens=16)
    scheduler.add(make_sequence("a", 3))
    scheduler.add(make_sequence("b", 3))
    assert step_shape(scheduler.schedule()) == [("a", 0, 3)]


def test_preempts_youngest_when_blocks_run_out() -> None:
    model = HashModel(make_scheduler(num_blocks=7, block_size=1, max_batched_tokens=16))
    for id in "ab":
        model.scheduler.add(make_sequence(id, 2, max_tokens=4))
    model.advance()
    model.advance()
    step = model.scheduler.schedule()
    assert step is not None
    assert step.preempted == ("b",)
    assert step_shape(step) == [("a", 3, 4)]
    assert model.scheduler.counts.preemptions == 1
    model.scheduler.commit(step, model.run(step))
    assert model.finish()["b"] == answer_alone(make_sequence("b", 2, max_tokens=4), 7)


def test_the_youngest_preempts_itself() -> None:
    model = HashModel(make_scheduler(num_blocks=7, block_size=1, max_batched_tokens=16))
    model.scheduler.add(make_sequence("a", 2, max_tokens=8))
    model.advance()
    model.scheduler.add(make_sequence("b", 1, max_tokens=8))
    model.advance()
    model.advance()
    step = model.advance()
    assert step is not None
    assert (step.preempted, step_shape(step)) == (("b",), [("a", 4, 5)])


def test_a_preempted_sequence_is_computed_again_with_its_answer() -> None:
    model = HashModel(make_scheduler(num_blocks=7, block_size=1, max_batched_tokens=16))
    for id in "ab":
        model.scheduler.add(make_sequence(id, 2, max_tokens=4))
    shapes = []
    while model.scheduler.has_work:
        shapes += step_shape(model.advance())
    assert ("b", 0, 4) in shapes


def test_abort_frees_waiting_and_running() -> None:
    model = HashModel(make_scheduler(max_num_seqs=1))
    for id in "ab":
        model.scheduler.add(make_sequence(id, 2))
    model.advance()
    ended = [model.scheduler.abort(id) for id in ("a", "b", "nobody")]
    assert [seq and seq.finish_reason for seq in ended] == ["abort", "abort", None]
    assert not model.scheduler.has_work
    model.scheduler.check_integrity()
    assert model.scheduler.pool.num_used_blocks == 0


def test_a_failure_in_a_step_ends_that_one_alone() -> None:
    model = HashModel(make_scheduler())
    for id in "ab":
        model.scheduler.add(make_sequence(id, 2))
    step = model.scheduler.schedule()
    assert step is not None
    tokens = model.run(step)
    assert len(model.scheduler.fail("a")) == 1
    assert [seq.id for seq in model.scheduler.commit(step, tokens)] == ["b"]
    assert model.scheduler.find("a") is None
    assert model.scheduler.find("b") is not None


def test_refuses_limits_under_which_somebody_starves() -> None:
    with pytest.raises(AssertionError, match="prefill could starve"):
        make_scheduler(max_num_seqs=9, max_batched_tokens=8)
    with pytest.raises(AssertionError, match="outgrow the pool"):
        make_scheduler(num_blocks=2, block_size=4, length=9)


@pytest.mark.parametrize(("waiting", "tokens"), [(1, 1000), (1000, 9)], ids=["count", "tokens"])
def test_has_room_for_only_so_many(waiting: int, tokens: int) -> None:
    scheduler = make_scheduler(max_num_seqs=2, max_waiting=waiting, max_waiting_tokens=tokens)
    added = 0
    while scheduler.has_room_for(3) and added < 9:
        scheduler.add(make_sequence(f"s{added}", 3))
        added += 1
    assert added == 3
    scheduler.schedule()
    assert scheduler.num_waiting_tokens == 3
    scheduler.abort("s2")
    assert scheduler.has_room_for(3)


def test_a_giant_may_wait_alone() -> None:
    scheduler = make_scheduler(max_waiting_tokens=5)
    assert scheduler.has_room_for(50)
    scheduler.add(make_sequence("giant", 50))
    assert not scheduler.has_room_for(1)


def test_a_better_priority_goes_first_and_equals_keep_their_order() -> None:
    model = HashModel(make_scheduler(max_num_seqs=1))
    for id, priority in [("a", 0), ("late", 5), ("b", 0), ("soon", -1)]:
        model.scheduler.add(make_sequence(id, 2, max_tokens=2, priority=priority))
    model.finish()
    assert list(model.done) == ["soon", "a", "b", "late"]


def test_preempts_the_worst_priority_first() -> None:
    model = HashModel(make_scheduler(num_blocks=7, block_size=1, max_batched_tokens=16))
    for id, priority in [("low", 1), ("high", 0)]:
        model.scheduler.add(make_sequence(id, 2, max_tokens=4, priority=priority))
    model.advance()
    model.advance()
    step = model.advance()
    assert step is not None
    assert (step.preempted, step_shape(step)) == (("low",), [("high", 3, 4)])
    model.finish()
    assert list(model.done) == ["high", "low"]


def test_tells_who_was_admitted() -> None:
    model = HashModel(make_scheduler(max_num_seqs=2))
    for id in "abc":
        model.scheduler.add(make_sequence(id, 2, max_tokens=2))
    admitted = [step.admitted for _ in range(3) if (step := model.advance())]
    assert admitted == [("a", "b"), (), ("c",)]


def test_a_window_holds_what_it_sees_and_no_more() -> None:
    """20 of 4 tokens a block would hold 6 blocks; 2 or 3 are in sight."""
    model = HashModel(make_scheduler(num_blocks=8, block_size=4, window=6, caching=True))
    model.scheduler.add(make_sequence("a", 8, max_tokens=12))
    used = []
    while model.scheduler.has_work:
        model.advance()
        used.append(model.scheduler.pool.num_used_blocks)
    assert max(used[1:]) <= 3
    assert model.done["a"].output_ids == answer_alone(
        make_sequence("a", 8, max_tokens=12), 32, window=6
    )


def test_a_window_finds_a_beginning_whose_start_is_forgotten() -> None:
    model = HashModel(make_scheduler(num_blocks=6, block_size=4, window=6, caching=True))
    first, second = (make_sequence("a", 18, max_tokens=1) for _ in range(2))
    second.id = "again"
    for seq in (first, second):
        model.scheduler.add(seq)
        model.finish()
    assert second.num_cached_tokens == 16
    assert first.output_ids == second.output_ids


def test_nobody_is_computed_past_a_length_that_is_certain() -> None:
    model = HashModel(make_scheduler(), overlaps=True)
    model.scheduler.add(make_sequence("a", 3, max_tokens=3))
    model.finish()
    assert (model.num_steps, model.num_ahead) == (3, 2)


def test_what_comes_after_an_end_is_computed_for_nobody() -> None:
    model = HashModel(make_scheduler(), overlaps=True)
    seq = make_sequence("d", 8, max_tokens=30, ends=True)
    expected = answer_alone(seq, model.scheduler.limits.max_model_len)
    assert expected[-1] == EOS
    model.scheduler.add(seq)
    assert model.finish() == {"d": expected}
    assert model.under_way is not None
    assert model.under_way.seqs == (seq,)
    model.advance()
    assert (seq.output_ids, model.scheduler.pool.num_used_blocks) == (expected, 0)


def test_nobody_loses_blocks_to_a_step_ahead() -> None:
    model = HashModel(make_scheduler(num_blocks=7, block_size=1, max_batched_tokens=16))
    model.overlaps = True
    for id in "ab":
        model.scheduler.add(make_sequence(id, 2, max_tokens=4))
    model.finish()
    assert model.scheduler.counts.preemptions == 1
    assert 0 < model.num_ahead < model.num_steps - 1


def test_what_failed_is_as_it_was_before() -> None:
    model = HashModel(make_scheduler(max_batched_tokens=8))
    model.scheduler.add(make_sequence("a", 3))
    model.advance()
    model.scheduler.add(make_sequence("b", 20))
    for ahead in (False, True):
        step = model.scheduler.schedule(ahead=ahead)
        assert step is not None
        model.scheduler.advance(step)
    model.scheduler.retract()
    model.scheduler.check_integrity()
    assert step_shape(model.advance()) == [("a", 3, 4), ("b", 0, 7)]
    model.finish()
    for seq in model.done.values():
        assert seq.output_ids == answer_alone(seq, 64 * 4)


def test_choices_that_step_aside_find_what_is_under_way() -> None:
    """The block of the first is named when its step has ended, one step later than without."""
    model = HashModel(make_scheduler(caching=True, max_batched_tokens=16), overlaps=True)
    first, second = make_sequence("a", 9), make_sequence("a", 9)
    second.id = "b"
    for seq in (first, second):
        model.scheduler.add(seq)
    model.finish()
    assert (first.output_ids, second.num_cached_tokens) == (second.output_ids, 8)


REQUESTS = st.lists(
    st.tuples(
        st.integers(1, 30),
        st.integers(1, 12),
        st.integers(0, 20),
        st.integers(0, 1),
        st.integers(-3, 3),
    ),
    min_size=1,
    max_size=8,
)
"""Length of prompt and answer, arrival, which of two beginnings, priority."""
SETTINGS = st.tuples(
    st.integers(1, 5),
    st.integers(0, 12),
    st.integers(1, 8),
    st.integers(0, 10),
    st.booleans(),
    st.sampled_from([0, 0, 1, 4, 9]),
    st.sampled_from([None, None, 0, 2]),
)
"""Sequences, budget beyond them, size of blocks, blocks beyond the longest sequence's, whether
there is a prefix cache, window, and how many blocks are remembered."""
Requests = list[tuple[int, int, int, int, int]]
Settings = tuple[int, int, int, int, bool, int, int | None]
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def build_case(
    requests: Requests, limits: Settings
) -> tuple[HashModel, list[tuple[int, Sequence]]]:
    """Sequences with their arrival steps, on a pool just big enough for the longest."""
    seqs, extra_budget, block_size, extra_blocks, caching, window, remembered = limits
    longest = max(prompt + answer for prompt, answer, *_ in requests) + 1
    scheduler = make_scheduler(
        num_blocks=-(-longest // block_size) + extra_blocks,
        block_size=block_size,
        caching=caching,
        window=window,
        max_num_seqs=seqs,
        max_batched_tokens=seqs + extra_budget,
    )
    scheduler.pool = BlockPool(
        scheduler.pool.num_blocks,
        block_size,
        prefix_caching=caching,
        max_remembered=remembered,
        window=window,
    )
    arrivals = []
    for index, (prompt, answer, at, beginning, priority) in enumerate(requests):
        ids = tuple((beginning * 13 + i * 5) % VOCAB for i in range(prompt))
        params = SamplingParams(max_tokens=answer)
        seq = Sequence(f"s{index}", ids, params, frozenset({EOS}), priority=priority)
        arrivals.append((at, seq))
    return HashModel(scheduler), sorted(arrivals, key=lambda arrival: arrival[0])


@pytest.mark.parametrize("overlaps", [False, True], ids=["in turn", "overlapped"])
@PROPERTY
@given(requests=REQUESTS, limits=SETTINGS)
def test_same_answers_under_any_schedule(
    overlaps: bool, requests: Requests, limits: Settings
) -> None:
    model, arrivals = build_case(requests, limits)
    model.overlaps = overlaps
    max_model_len = model.scheduler.limits.max_model_len
    for now in range(21):
        for at, seq in arrivals:
            if at == now:
                model.scheduler.add(seq)
        model.advance()
    answers = model.finish()
    window = limits[5]
    assert answers == {seq.id: answer_alone(seq, max_model_len, window) for _, seq in arrivals}
    assert model.scheduler.pool.num_used_blocks == 0


@PROPERTY
@given(requests=REQUESTS, limits=SETTINGS)
def test_the_first_in_rank_is_never_overtaken(requests: Requests, limits: Settings) -> None:
    """It advances in every step. (With a cache it may step aside for what will spare it work.)"""
    model, arrivals = build_case(requests, (*limits[:4], False, *limits[5:]))
    for _, seq in arrivals:
        model.scheduler.add(seq)
    order = [seq for _, seq in sorted(arrivals, key=lambda arrival: arrival[1].rank)]
    while model.scheduler.has_work:
        first = next(seq for seq in order if seq.id not in model.done)
        assert first.id in [id for id, _, _ in step_shape(model.advance())]


@pytest.mark.parametrize("overlaps", [False, True], ids=["in turn", "overlapped"])
@PROPERTY
@given(requests=REQUESTS, limits=SETTINGS, data=st.data())
def test_aborts_at_any_moment_lose_no_block(
    overlaps: bool, requests: Requests, limits: Settings, data: st.DataObject
) -> None:
    model, arrivals = build_case(requests, limits)
    model.overlaps = overlaps
    for _, seq in arrivals:
        model.scheduler.add(seq)
    victims = data.draw(st.lists(st.sampled_from([seq.id for _, seq in arrivals]), max_size=6))
    for victim in victims:
        model.advance()
        end = data.draw(st.sampled_from([model.scheduler.abort, model.scheduler.fail]))
        end(victim)
        model.scheduler.check_integrity()
        assert model.scheduler.find(victim) is None
        model.advance()
        step = model.under_way if overlaps else model.advance()
        assert step is None or victim not in [id for id, _, _ in step_shape(step)]
    model.finish()
    assert model.scheduler.pool.num_used_blocks == 0
