"""A scheduler with a model of a few lines, for tests of what is computed when.

The model is a hash of everything that the cache holds for a sequence: it reads tokens back through
the block table, so a wrong block, position or order changes the answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from stoker_runtime.schedule.blocks import BlockPool
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.scheduler import Limits, Scheduler
from stoker_runtime.schedule.sequence import Sequence, Status
from stoker_runtime.schedule.step import Step

VOCAB = 50
EOS = 7


def make_scheduler(
    num_blocks: int = 64,
    block_size: int = 4,
    *,
    caching: bool = False,
    length: int = 0,
    window: int = 0,
    **limits: int,
) -> Scheduler:
    """Four sequences and eight tokens per step, unless `limits` say otherwise."""
    pool = BlockPool(num_blocks, block_size, prefix_caching=caching, window=window)
    fields = {"max_num_seqs": 4, "max_batched_tokens": 8, **limits}
    return Scheduler(pool, Limits(max_model_len=length or pool.capacity_tokens, **fields))


def make_sequence(
    id: str, num_prompt: int, max_tokens: int = 4, *, ends: bool = False, priority: int = 0
) -> Sequence:
    """A prompt that differs from those of other names in its first token already."""
    prompt = tuple((sum(id.encode()) * 17 + i * 5) % VOCAB for i in range(num_prompt))
    params = SamplingParams(max_tokens=max_tokens, ignore_eos=not ends)
    return Sequence(id, prompt, params, frozenset({EOS}), priority=priority)


@dataclass
class HashModel:
    """Runs steps against a cache of (position, token) pairs.

    With `overlaps`, a step is scheduled before the tokens of the one before it are known, and taken
    from that one when it runs.
    """

    scheduler: Scheduler
    overlaps: bool = False
    cache: dict[int, tuple[int, int]] = field(default_factory=dict)
    done: dict[str, Sequence] = field(default_factory=dict)
    num_steps: int = 0
    num_ahead: int = 0
    """Steps that were scheduled before the one before them had ended."""
    under_way: Step | None = None
    drawn: list[int] = field(default_factory=list)
    """By the last step."""

    def run(self, step: Step) -> dict[str, int]:
        """Write and read the cache; the next token of every sequence that is far enough."""
        made, drawn = {}, []
        size = self.scheduler.pool.block_size
        for chunk in step.chunks:
            window = self.scheduler.pool.window or chunk.end
            seen = range(max(0, chunk.start - window + 1), chunk.end)
            slots = {i: chunk.block_ids[i // size] * size + i % size for i in seen}
            for position, given in enumerate(chunk.token_ids, start=chunk.start):
                token = self.drawn[-1 - given] if given < 0 else given
                self.cache[slots[position]] = (position, token)
            context = [self.cache[slot] for slot in slots.values()]
            assert [position for position, _ in context] == list(seen)
            if chunk.samples:
                made[chunk.seq_id] = next_token([token for _, token in context[-window:]])
                drawn.append(made[chunk.seq_id])
        self.drawn = drawn
        return made

    def advance(self) -> Step | None:
        """One step, with everything checked."""
        step = self.under_way or self._begin()
        if step is not None:
            made = self.run(step)
            self.under_way = self._begin(ahead=True) if self.overlaps else None
            for seq in self.scheduler.commit(step, made):
                if seq.status is Status.FINISHED:
                    self.done[seq.id] = seq
            self.num_steps += 1
        self.scheduler.check_integrity()
        return step

    def _begin(self, *, ahead: bool = False) -> Step | None:
        step = self.scheduler.schedule(ahead=ahead)
        if step is not None:
            assert 0 < step.num_tokens <= self.scheduler.limits.max_batched_tokens
            assert not (ahead and step.preempted), "blocks were taken from a step under way"
            self.num_ahead += ahead
            self._check_writes(step)
            self.scheduler.advance(step)
        return step

    def _check_writes(self, step: Step) -> None:
        size, holders = self.scheduler.pool.block_size, self.scheduler.pool._num_holders
        for chunk in step.chunks:
            written = {chunk.block_ids[i // size] for i in range(chunk.start, chunk.end)}
            assert {holders[block] for block in written} == {1}, "somebody else reads that"

    def finish(self) -> dict[str, list[int]]:
        """Step until nothing is left; all answers."""
        while self.scheduler.has_work:
            assert self.advance() is not None, "work, but no step"
        return {id: seq.output_ids for id, seq in self.done.items()}


def next_token(context: list[int]) -> int:
    """The model: a token that depends on all tokens and their order."""
    value = len(context)
    for token in context:
        value = (value * 31 + token + 1) % 1_000_003
    return value % VOCAB


def answer_alone(seq: Sequence, max_model_len: int, window: int = 0) -> list[int]:
    """What the sequence must say, whoever else is there."""
    context, made = list(seq.prompt_ids), []
    while len(made) < seq.params.max_tokens and len(context) < max_model_len:
        made.append(next_token(context[-window:]))
        context.append(made[-1])
        if made[-1] in seq.stop_ids:
            break
    return made


def step_shape(step: Step | None) -> list[tuple[str, int, int]]:
    """Who is computed from where to where."""
    assert step is not None
    return [(chunk.seq_id, chunk.start, chunk.end) for chunk in step.chunks]
