"""Decides what the next step computes.

Knows sequences, blocks and limits; does not know time, tensors or requests' texts. Driven by the
engine: `add` and `abort` at any time, then `schedule` and `commit` in turn. The idea of one token
budget without separate prefill and decode phases is vLLM's (V1 scheduler).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

from stoker_runtime.schedule.blocks import BlockPool
from stoker_runtime.schedule.sequence import Finish, Sequence, Status
from stoker_runtime.schedule.step import Chunk, Step


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step and one sequence may take."""

    max_num_seqs: int
    """Sequences that hold blocks at once."""
    max_batched_tokens: int
    """Tokens of one step; at least `max_num_seqs`, so that a prefill always gets one."""
    max_model_len: int
    """Tokens of one sequence; at most what the pool holds."""


class Scheduler:
    """First come, first served, under one token budget per step.

    Running sequences that decode get their one token each, oldest first; what is left of the budget
    goes to unfinished prefills, then to new sequences, in order of arrival. A sequence is admitted
    when all of its tokens have room, so only decoding can run out of blocks: then the youngest
    running sequence gives up its blocks and is computed again later. The oldest one thus advances
    in every step, and nobody overtakes: everybody's turn comes.
    """

    def __init__(self, pool: BlockPool, limits: Limits) -> None:
        assert limits.max_batched_tokens >= limits.max_num_seqs, "a prefill could starve"
        assert limits.max_model_len <= pool.capacity_tokens, "a sequence could outgrow the pool"
        self.pool = pool
        self.limits = limits
        self.num_preemptions = 0
        self._waiting: deque[Sequence] = deque()
        self._running: list[Sequence] = []  # oldest first
        self._sequences: dict[str, Sequence] = {}

    @property
    def num_running(self) -> int:
        """Sequences that hold blocks."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Sequences that hold none."""
        return len(self._waiting)

    @property
    def has_work(self) -> bool:
        """Somebody is running or waiting."""
        return bool(self._sequences)

    def find(self, seq_id: str) -> Sequence | None:
        """The unfinished sequence of that id."""
        return self._sequences.get(seq_id)

    def add(self, seq: Sequence) -> None:
        """Put a new sequence at the end of the queue."""
        assert seq.num_tokens < self.limits.max_model_len, f"{seq.id}: no room for an answer"
        assert seq.id not in self._sequences, f"{seq.id} is here already"
        self._sequences[seq.id] = seq
        self._waiting.append(seq)

    def abort(self, seq_id: str) -> Sequence | None:
        """End a sequence now; None if it is unknown or has ended."""
        return self._end(seq_id, "abort")

    def fail(self, seq_id: str) -> Sequence | None:
        """End a sequence that can't be computed; the others go on."""
        return self._end(seq_id, "error")

    def schedule(self) -> Step | None:
        """The next step; None when there is nothing to do."""
        preempted: list[str] = []
        chunks = self._schedule_decodes(preempted)
        budget = self.limits.max_batched_tokens - len(chunks)
        for seq in self._running:
            if budget > 0 and not seq.is_decoding:
                chunks.append(self._cut_chunk(seq, budget))
                budget -= len(chunks[-1].token_ids)
        while budget > 0 and (admitted := self._admit()):
            chunks.append(self._cut_chunk(admitted, budget))
            budget -= len(chunks[-1].token_ids)
        return Step(tuple(chunks), tuple(preempted)) if chunks else None

    def commit(self, step: Step, token_ids: Mapping[str, int]) -> list[Sequence]:
        """Note that `step` was computed and which tokens were drawn; returns who got one."""
        advanced = []
        for chunk in step.chunks:
            seq = self._sequences.get(chunk.seq_id)
            if seq is None:  # failed meanwhile
                continue
            seq.num_computed_tokens = chunk.end
            if chunk.samples:
                seq.append(token_ids[seq.id], self.limits.max_model_len)
                advanced.append(seq)
                if seq.status is Status.FINISHED:
                    self._forget(seq)
        return advanced

    def check_integrity(self) -> None:
        """Queues, tables and blocks agree; called by tests after each step."""
        self.pool.check_integrity()
        queued = [*self._waiting, *self._running]
        assert set(queued) == set(self._sequences.values()), "a queue lost somebody"
        assert len(queued) == len(self._sequences), "somebody is queued twice"
        assert len(self._running) <= self.limits.max_num_seqs, "too many run"
        held = sum(len(self.pool.table(seq.id)) for seq in self._running)
        assert held == self.pool.num_used_blocks, "blocks of nobody running"

    def _schedule_decodes(self, preempted: list[str]) -> list[Chunk]:
        chunks = []
        for seq in list(self._running):
            if seq.status is Status.RUNNING and seq.is_decoding and self._make_room(seq, preempted):
                chunks.append(self._cut_chunk(seq, 1))
        return chunks

    def _make_room(self, seq: Sequence, preempted: list[str]) -> bool:
        """Room for all tokens of `seq`, if need be at the cost of the youngest (maybe itself)."""
        while not self.pool.grow(seq.id, seq.num_tokens):
            victim = self._running[-1]
            self._preempt(victim)
            preempted.append(victim.id)
            if victim is seq:
                return False
        return True

    def _preempt(self, victim: Sequence) -> None:
        """Back to the head of the queue: everyone there is younger."""
        self._running.remove(victim)
        self.pool.release(victim.id)
        victim.num_computed_tokens = 0
        victim.status = Status.WAITING
        self._waiting.appendleft(victim)
        self.num_preemptions += 1

    def _admit(self) -> Sequence | None:
        """Move the head of the queue to the running ones if it fits.

        One block per running sequence stays free, lest the newcomer be preempted at once.
        """
        if not self._waiting or len(self._running) >= self.limits.max_num_seqs:
            return None
        seq = self._waiting[0]
        spare = self.pool.num_free_blocks - len(self._running)
        if self.pool.missing_blocks(seq.id, seq.num_tokens) > spare:
            return None
        self.pool.grow(seq.id, seq.num_tokens)
        self._waiting.popleft()
        self._running.append(seq)
        seq.status = Status.RUNNING
        return seq

    def _cut_chunk(self, seq: Sequence, budget: int) -> Chunk:
        start = seq.num_computed_tokens
        end = min(seq.num_tokens, start + budget)
        tokens = seq.slice_tokens(start, end)
        return Chunk(seq.id, start, tokens, self.pool.table(seq.id), samples=end == seq.num_tokens)

    def _end(self, seq_id: str, reason: Finish) -> Sequence | None:
        seq = self._sequences.get(seq_id)
        if seq is not None:
            seq.finish(reason)
            self._forget(seq)
        return seq

    def _forget(self, seq: Sequence) -> None:
        del self._sequences[seq.id]
        self.pool.release(seq.id)
        (self._running if seq in self._running else self._waiting).remove(seq)
