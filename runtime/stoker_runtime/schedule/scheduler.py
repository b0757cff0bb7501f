"""Decides what the next step computes.

Knows sequences, blocks and limits; does not know time, tensors or requests' texts. Driven by the
engine: `add` and `abort` at any time, then `schedule` and `commit` in turn; between them `advance`
if the next step is to be scheduled before the `commit`. The idea of one token budget without
separate prefill and decode phases is vLLM's (V1 scheduler); that of tokens that count before they
are known, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stoker_runtime.schedule.blocks import BlockPool, Found
from stoker_runtime.schedule.line import Line, rank
from stoker_runtime.schedule.prefix import name_blocks
from stoker_runtime.schedule.sequence import Finish, Sequence, Status
from stoker_runtime.schedule.step import Chunk, Step


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step and one sequence may take, and how much may wait."""

    max_num_seqs: int
    """Sequences that hold blocks at once."""
    max_batched_tokens: int
    """Tokens of one step; at least `max_num_seqs`, so that a prefill always gets one."""
    max_model_len: int
    """Tokens of one sequence; at most what the pool holds."""
    max_waiting: int = 1 << 30
    """Sequences beyond `max_num_seqs` that may be here."""
    max_waiting_tokens: int = 1 << 60
    """Tokens of all that wait, unless it is only one."""


@dataclass(slots=True)
class Counts:
    """What has happened since the start."""

    preemptions: int = 0
    admissions: int = 0
    queried_tokens: int = 0
    """Tokens looked for in the prefix cache, at first admissions."""
    hit_tokens: int = 0
    """Those of them that were found."""


class Scheduler:
    """First come, first served within a priority, under one token budget per step.

    Running sequences that decode get their one token each, in order of rank; what is left of the
    budget goes to unfinished prefills, then to new sequences. A sequence is admitted when all of
    its tokens have room, so only decoding can run out of blocks: then the running sequence of the
    last rank (lowest priority, youngest) gives up its blocks and is computed again later, mostly
    from blocks that are still remembered. Ranks are fixed and those of newcomers grow, the first
    one advances in every step, and nobody overtakes for want of room: everybody's turn comes.
    """

    def __init__(self, pool: BlockPool, limits: Limits) -> None:
        assert limits.max_batched_tokens >= limits.max_num_seqs, "a prefill could starve"
        assert limits.max_model_len <= pool.capacity_tokens, "a sequence could outgrow the pool"
        self.pool = pool
        self.limits = limits
        self.counts = Counts()
        self.num_waiting_tokens = 0
        self._num_arrivals = 0
        self._waiting = Line()
        self._running = Line()
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

    def has_room_for(self, num_tokens: int) -> bool:
        """A new sequence of so many tokens may wait here."""
        if len(self._sequences) >= self.limits.max_num_seqs + self.limits.max_waiting:
            return False
        waiting_tokens = self.num_waiting_tokens + num_tokens
        return not len(self._waiting) or waiting_tokens <= self.limits.max_waiting_tokens

    def add(self, seq: Sequence) -> None:
        """Queue a new sequence behind those of its priority."""
        assert seq.num_tokens < self.limits.max_model_len, f"{seq.id}: no room for an answer"
        assert seq.id not in self._sequences, f"{seq.id} is here already"
        self._num_arrivals += 1
        seq.rank = rank(seq.priority, self.counts.admissions, self._num_arrivals)
        self._sequences[seq.id] = seq
        self._enqueue(seq)

    def abort(self, seq_id: str) -> Sequence | None:
        """End a sequence now; None if it is unknown or has ended."""
        return self._end(seq_id, "abort")

    def fail(self, seq_id: str) -> tuple[int, ...]:
        """End a sequence that can't be computed; the others go on.

        Returns the blocks that only it held: what is in them is not to be trusted.
        """
        spoilt = self.pool.forget(seq_id)
        self._end(seq_id, "error")
        return spoilt

    def schedule(self, *, ahead: bool = False) -> Step | None:
        """The next step; None when there is nothing to do.

        With `ahead`, another one is under way. Nobody loses blocks then, because that one may end a
        sequence or fill a block that is worth remembering: None, too, when there are too few.
        """
        if ahead and self._would_preempt():
            return None
        preempted: list[str] = []
        chunks = self._schedule_decodes(preempted)
        budget = self.limits.max_batched_tokens - len(chunks)
        for seq in self._running:
            if budget > 0 and not seq.is_decoding:
                chunks.append(self._cut_chunk(seq, budget))
                budget -= len(chunks[-1].token_ids)
        newcomers = self._admit(budget)
        admitted = tuple(chunk.seq_id for chunk in newcomers)
        chunks += newcomers
        if not chunks:
            return None
        seqs = tuple(self._sequences[chunk.seq_id] for chunk in chunks)
        return Step(tuple(chunks), seqs, tuple(preempted), admitted)

    def advance(self, step: Step) -> None:
        """The step is under way: count its tokens as computed and drawn, though none is known."""
        for chunk, seq in zip(step.chunks, step.seqs, strict=True):
            seq.num_computed_tokens = chunk.end
        for row, seq in enumerate(step.drawing):
            seq.num_awaited += 1
            seq.drawing_row = row

    def retract(self) -> None:
        """Steps under way have failed: all is as it was before them."""
        for seq in self._running:
            seq.num_computed_tokens = seq.num_settled_tokens
            seq.num_awaited = 0

    def commit(self, step: Step, token_ids: Mapping[str, int]) -> list[Sequence]:
        """Note that `step` was computed and which tokens were drawn; returns who got one."""
        advanced = []
        for chunk, seq in zip(step.chunks, step.seqs, strict=True):
            if seq.has_ended:  # meanwhile
                continue
            end = seq.num_settled_tokens = chunk.end
            seq.num_computed_tokens = max(seq.num_computed_tokens, end)
            self._remember(seq, chunk.start, end)
            if chunk.samples:
                seq.num_awaited = max(0, seq.num_awaited - 1)
                seq.append(token_ids[seq.id], self.limits.max_model_len)
                advanced.append(seq)
                if seq.has_ended:
                    self._leave(seq)
                    continue
            self.pool.let_pass(seq.id, end)
        return advanced

    def check_integrity(self) -> None:
        """Queues, tables and blocks agree; called by tests after each step."""
        self.pool.check_integrity()
        queued = [*self._waiting, *self._running]
        assert set(queued) == set(self._sequences.values()), "a queue lost somebody"
        assert len(queued) == len(self._sequences), "somebody is queued twice"
        assert len(self._running) <= self.limits.max_num_seqs, "too many run"
        held = {block for seq in self._running for block in self.pool.table(seq.id)}
        assert len(held) == self.pool.num_used_blocks, "blocks of nobody running"
        waiting_tokens = sum(seq.num_tokens for seq in self._waiting)
        assert self.num_waiting_tokens == waiting_tokens, "tokens were miscounted"

    def _would_preempt(self) -> bool:
        missing = (self.pool.missing_blocks(seq.id, seq.num_tokens) for seq in self._decoding())
        return sum(missing) > self.pool.num_free_blocks

    def _decoding(self) -> list[Sequence]:
        """Who gets one more token; not those whose last one is being drawn."""
        longest = self.limits.max_model_len
        return [seq for seq in self._running if seq.is_decoding and not seq.is_full(longest)]

    def _schedule_decodes(self, preempted: list[str]) -> list[Chunk]:
        chunks = []
        for seq in self._decoding():
            if seq.status is Status.RUNNING and self._make_room(seq, preempted):
                chunks.append(self._cut_chunk(seq, 1))
        return chunks

    def _make_room(self, seq: Sequence, preempted: list[str]) -> bool:
        """Room for all tokens of `seq`, if need be at the cost of the last one (maybe itself)."""
        while not self.pool.grow(seq.id, seq.num_tokens):
            victim = self._running.last
            self._preempt(victim)
            preempted.append(victim.id)
            if victim is seq:
                return False
        return True

    def _preempt(self, victim: Sequence) -> None:
        """Back to the queue, where its rank puts it before all that came after it."""
        self._running.remove(victim)
        self.pool.release(victim.id)
        victim.num_computed_tokens = victim.num_settled_tokens = 0
        victim.num_preemptions += 1
        self._enqueue(victim)
        self.counts.preemptions += 1

    def _admit(self, budget: int) -> list[Chunk]:
        """First chunks of those that get their blocks now.

        The first that does not fit stops all behind it. One whose next block is just being computed
        by somebody else lets others pass in this step: of `n` answers to one prompt, the first
        computes it and the others find it in the cache.
        """
        chunks: list[Chunk] = []
        for seq in self._waiting.first(2 * self.limits.max_num_seqs):
            if budget <= 0 or len(self._running) >= self.limits.max_num_seqs:
                break
            names = self._lookup_names(seq)
            cached = self.pool.find(names)
            if self._is_being_made(names, cached.num_blocks):
                continue
            if not self._fits(seq, cached):
                break
            self._start(seq, cached)
            chunks.append(self._cut_chunk(seq, budget))
            budget -= len(chunks[-1].token_ids)
        return chunks

    def _lookup_names(self, seq: Sequence) -> list[bytes]:
        """Of the blocks that may come from the cache: never with the last token, whose scores are
        needed, and none while the whole prompt's scores are."""
        scores_prompt = seq.params.prompt_logprobs is not None and not seq.output_ids
        if not self.pool.prefix_caching or scores_prompt:
            return []
        size = self.pool.block_size
        return name_blocks(seq, size)[: (seq.num_tokens - 1) // size]

    def _is_being_made(self, names: list[bytes], index: int) -> bool:
        """Somebody running will soon have filled block `index`; who runs waits for nobody."""
        if index >= len(names):
            return False
        end = (index + 1) * self.pool.block_size
        return any(
            len(seq.block_names) > index
            and seq.block_names[index] == names[index]
            and seq.num_settled_tokens < end
            for seq in self._running
        )

    def _fits(self, seq: Sequence, cached: Found) -> bool:
        """One block per running sequence stays free, lest the newcomer be preempted at once."""
        spare = self.pool.num_free_blocks - len(self._running)
        missing = self.pool.missing_blocks(seq.id, seq.num_tokens) - cached.num_blocks
        return missing + self.pool.count_free(cached.block_ids) <= spare

    def _start(self, seq: Sequence, cached: Found) -> None:
        self.pool.share(seq.id, cached)
        self.pool.grow(seq.id, seq.num_tokens)
        seq.num_computed_tokens = cached.num_blocks * self.pool.block_size
        seq.num_settled_tokens = seq.num_computed_tokens
        self._dequeue(seq)
        self._running.add(seq)
        seq.status = Status.RUNNING
        self.counts.admissions += 1
        if not seq.num_preemptions:
            seq.num_cached_tokens = seq.num_computed_tokens
            self.counts.queried_tokens += seq.num_tokens
            self.counts.hit_tokens += seq.num_cached_tokens

    def _cut_chunk(self, seq: Sequence, budget: int) -> Chunk:
        start, newest = seq.num_computed_tokens, seq.num_tokens
        end = min(newest, start + budget)
        tokens = seq.slice_tokens(start, end)
        return Chunk(seq.id, start, tokens, self.pool.table(seq.id), samples=end == newest)

    def _remember(self, seq: Sequence, start: int, end: int) -> None:
        """Name the blocks that tokens `start` to `end` filled."""
        size = self.pool.block_size
        first, last = start // size, end // size
        if self.pool.prefix_caching and last > first:
            self.pool.name(seq.id, first, name_blocks(seq, size)[first:last])

    def _end(self, seq_id: str, reason: Finish) -> Sequence | None:
        seq = self._sequences.get(seq_id)
        if seq is not None:
            self._leave(seq)
            seq.finish(reason)
        return seq

    def _leave(self, seq: Sequence) -> None:
        del self._sequences[seq.id]
        self.pool.release(seq.id)
        if seq.status is Status.WAITING:
            self._dequeue(seq)
        else:
            self._running.remove(seq)

    def _enqueue(self, seq: Sequence) -> None:
        seq.status = Status.WAITING
        self._waiting.add(seq)
        self.num_waiting_tokens += seq.num_tokens

    def _dequeue(self, seq: Sequence) -> None:
        self._waiting.remove(seq)
        self.num_waiting_tokens -= seq.num_tokens
