"""Who is computed when, and that it makes no difference to what comes out.

The model here is a hash of everything that the cache holds for a sequence: it reads tokens back
through the block table, so a wrong block, position or order changes the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker_runtime.schedule.blocks import BlockPool
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.scheduler import Limits, Scheduler
from stoker_runtime.schedule.sequence import Sequence, Status
from stoker_runtime.schedule.step import Step

VOCAB = 50
EOS = 7


def make_scheduler(
    num_blocks: int = 64, block_size: int = 4, seqs: int = 4, budget: int = 8, length: int = 0
) -> Scheduler:
    pool = BlockPool(num_blocks, block_size)
    return Scheduler(pool, Limits(seqs, budget, length or pool.capacity_tokens))


def make_sequence(id: str, num_prompt: int, max_tokens: int = 4, *, ends: bool = False) -> Sequence:
    prompt = tuple((sum(id.encode()) * 17 + i * 5) % VOCAB for i in range(num_prompt))
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=not ends)
    return Sequence(id, prompt, params, frozenset({EOS}))


@dataclass
class HashModel:
    """Runs steps against a cache of (position, token) pairs."""

    scheduler: Scheduler
    cache: dict[int, tuple[int, int]] = field(default_factory=dict)
    done: dict[str, Sequence] = field(default_factory=dict)
    num_steps: int = 0

    def run(self, step: Step) -> dict[str, int]:
        made = {}
        size = self.scheduler.pool.block_size
        for chunk in step.chunks:
            slots = [chunk.block_ids[i // size] * size + i % size for i in range(chunk.end)]
            for position, token in enumerate(chunk.token_ids, start=chunk.start):
                self.cache[slots[position]] = (position, token)
            context = [self.cache[slot] for slot in slots]
            assert [position for position, _ in context] == list(range(chunk.end))
            if chunk.samples:
                made[chunk.seq_id] = next_token([token for _, token in context])
        return made

    def advance(self) -> Step | None:
        step = self.scheduler.schedule()
        if step is not None:
            assert 0 < step.num_tokens <= self.scheduler.limits.max_batched_tokens
            for seq in self.scheduler.commit(step, self.run(step)):
                if seq.status is Status.FINISHED:
                    self.done[seq.id] = seq
            self.num_steps += 1
        self.scheduler.check_integrity()
        return step

    def finish(self) -> dict[str, list[int]]:
        while self.scheduler.has_work:
            assert self.advance() is not None, "work, but no step"
        return {id: seq.output_ids for id, seq in self.done.items()}


def next_token(context: list[int]) -> int:
    value = len(context)
    for token in context:
        value = (value * 31 + token + 1) % 1_000_003
    return value % VOCAB


def answer_alone(seq: Sequence, max_model_len: int) -> list[int]:
    context, made = list(seq.prompt_ids), []
    while len(made) < seq.params.max_tokens and len(context) < max_model_len:
        made.append(next_token(context))
        context.append(made[-1])
        if made[-1] in seq.stop_ids:
            break
    return made


def step_shape(step: Step | None) -> list[tuple[str, int, int]]:
    assert step is not None
    return [(chunk.seq_id, chunk.start, chunk.end) for chunk in step.chunks]


def test_idles_without_work() -> None:
    scheduler = make_scheduler()
    assert scheduler.schedule() is None
    assert not scheduler.has_work


def test_cuts_a_long_prompt_into_chunks() -> None:
    model = HashModel(make_scheduler(budget=8))
    model.scheduler.add(make_sequence("a", 20))
    shapes = [step_shape(model.advance()) for _ in range(4)]
    assert shapes == [[("a", 0, 8)], [("a", 8, 16)], [("a", 16, 20)], [("a", 20, 21)]]


def test_decodes_go_before_prefills() -> None:
    model = HashModel(make_scheduler(budget=8))
    model.scheduler.add(make_sequence("a", 3))
    model.advance()
    model.scheduler.add(make_sequence("b", 20))
    assert step_shape(model.advance()) == [("a", 3, 4), ("b", 0, 7)]
    assert step_shape(model.advance()) == [("a", 4, 5), ("b", 7, 14)]


def test_leftover_budget_goes_to_the_next_in_line() -> None:
    scheduler = make_scheduler(budget=8)
    for id, length in [("a", 3), ("b", 3), ("c", 9)]:
        scheduler.add(make_sequence(id, length))
    assert step_shape(scheduler.schedule()) == [("a", 0, 3), ("b", 0, 3), ("c", 0, 2)]


def test_runs_no_more_than_allowed() -> None:
    model = HashModel(make_scheduler(seqs=2, budget=8))
    for id in "abc":
        model.scheduler.add(make_sequence(id, 2, max_tokens=3))
    model.advance()
    assert (model.scheduler.num_running, model.scheduler.num_waiting) == (2, 1)
    model.finish()
    assert list(model.done) == ["a", "b", "c"]


def test_nobody_overtakes_a_waiting_giant() -> None:
    scheduler = make_scheduler(num_blocks=10, block_size=1, budget=16)
    scheduler.add(make_sequence("a", 4))
    scheduler.schedule()
    scheduler.add(make_sequence("giant", 8))
    scheduler.add(make_sequence("tiny", 1))
    scheduler.schedule()
    assert [scheduler.num_running, scheduler.num_waiting] == [1, 2]


def test_newcomers_leave_a_block_for_each_running_one() -> None:
    scheduler = make_scheduler(num_blocks=6, block_size=1, budget=16)
    scheduler.add(make_sequence("a", 3))
    scheduler.add(make_sequence("b", 3))
    assert step_shape(scheduler.schedule()) == [("a", 0, 3)]


def test_preempts_youngest_when_blocks_run_out() -> None:
    model = HashModel(make_scheduler(num_blocks=7, block_size=1, budget=16))
    for id in "ab":
        model.scheduler.add(make_sequence(id, 2, max_tokens=4))
    model.advance()
    model.advance()
    step = model.scheduler.schedule()
    assert step is not None
    assert step.preempted == ("b",)
    assert step_shape(step) == [("a", 3, 4)]
    assert model.scheduler.num_preemptions == 1
    model.scheduler.commit(step, model.run(step))
    assert model.finish()["b"] == answer_alone(make_sequence("b", 2, max_tokens=4), 7)


def test_the_youngest_preempts_itself() -> None:
    model = HashModel(make_scheduler(num_blocks=7, block_size=1, budget=16))
    model.scheduler.add(make_sequence("a", 2, max_tokens=8))
    model.advance()
    model.scheduler.add(make_sequence("b", 1, max_tokens=8))
    model.advance()
    model.advance()
    step = model.advance()
    assert step is not None
    assert (step.preempted, step_shape(step)) == (("b",), [("a", 4, 5)])


def test_a_preempted_sequence_is_computed_again_with_its_answer() -> None:
    model = HashModel(make_scheduler(num_blocks=7, block_size=1, budget=16))
    for id in "ab":
        model.scheduler.add(make_sequence(id, 2, max_tokens=4))
    shapes = []
    while model.scheduler.has_work:
        shapes += step_shape(model.advance())
    assert ("b", 0, 4) in shapes


def test_abort_frees_waiting_and_running() -> None:
    model = HashModel(make_scheduler(seqs=1))
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
    failed = model.scheduler.fail("a")
    assert failed is not None
    assert failed.finish_reason == "error"
    assert [seq.id for seq in model.scheduler.commit(step, tokens)] == ["b"]
    assert model.scheduler.find("a") is None
    assert model.scheduler.find("b") is not None


def test_refuses_limits_under_which_somebody_starves() -> None:
    with pytest.raises(AssertionError, match="prefill could starve"):
        make_scheduler(seqs=9, budget=8)
    with pytest.raises(AssertionError, match="outgrow the pool"):
        make_scheduler(num_blocks=2, block_size=4, length=9)


REQUESTS = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 12), st.integers(0, 20)), min_size=1, max_size=8
)
SETTINGS = st.tuples(st.integers(1, 5), st.integers(0, 12), st.integers(1, 8), st.integers(0, 10))


def build_case(
    requests: list[tuple[int, int, int]], limits: tuple[int, int, int, int]
) -> tuple[HashModel, list[tuple[int, Sequence]]]:
    """Sequences with their arrival steps, on a pool just big enough for the longest."""
    seqs, extra_budget, block_size, extra_blocks = limits
    longest = max(prompt + answer for prompt, answer, _ in requests) + 1
    num_blocks = -(-longest // block_size) + extra_blocks
    scheduler = make_scheduler(num_blocks, block_size, seqs, seqs + extra_budget)
    arrivals = [
        (at, make_sequence(f"s{index}", prompt, answer, ends=True))
        for index, (prompt, answer, at) in enumerate(requests)
    ]
    return HashModel(scheduler), sorted(arrivals, key=lambda arrival: arrival[0])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests=REQUESTS, limits=SETTINGS)
def test_same_answers_under_any_schedule(
    requests: list[tuple[int, int, int]], limits: tuple[int, int, int, int]
) -> None:
    model, arrivals = build_case(requests, limits)
    max_model_len = model.scheduler.limits.max_model_len
    for now in range(21):
        for at, seq in arrivals:
            if at == now:
                model.scheduler.add(seq)
        model.advance()
    answers = model.finish()
    assert answers == {seq.id: answer_alone(seq, max_model_len) for _, seq in arrivals}
    assert model.scheduler.pool.num_used_blocks == 0


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests=REQUESTS, limits=SETTINGS)
def test_the_oldest_advances_in_every_step(
    requests: list[tuple[int, int, int]], limits: tuple[int, int, int, int]
) -> None:
    model, arrivals = build_case(requests, limits)
    for _, seq in arrivals:
        model.scheduler.add(seq)
    order = [seq.id for _, seq in arrivals]
    while model.scheduler.has_work:
        oldest = next(id for id in order if id not in model.done)
        assert oldest in [id for id, _, _ in step_shape(model.advance())]


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests=REQUESTS, limits=SETTINGS, data=st.data())
def test_aborts_at_any_moment_lose_no_block(
    requests: list[tuple[int, int, int]], limits: tuple[int, int, int, int], data: st.DataObject
) -> None:
    model, arrivals = build_case(requests, limits)
    for _, seq in arrivals:
        model.scheduler.add(seq)
    victims = data.draw(st.lists(st.sampled_from([seq.id for _, seq in arrivals]), max_size=6))
    for victim in victims:
        model.advance()
        model.scheduler.abort(victim)
        model.scheduler.check_integrity()
    model.finish()
    assert model.scheduler.pool.num_used_blocks == 0
