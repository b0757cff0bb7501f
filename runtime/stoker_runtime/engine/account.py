"""What the engine tells of itself: counters, its pace, and each sequence's waiting times.

Knows steps, sequences and instants that it is given; does not know a clock, tensors or requests.
Kept by the engine.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass

from stoker_runtime.engine.pace import Pace
from stoker_runtime.schedule.scheduler import Scheduler
from stoker_runtime.schedule.sequence import Sequence
from stoker_runtime.schedule.step import Step
from stoker_runtime.wire import STEP_TOKENS_BOUNDS, Stats


@dataclass(slots=True)
class _Times:
    arrived_at: float
    admitted_at: float | None = None


class Account:
    """Counts what happens; seconds are those of whatever clock the caller has."""

    def __init__(self) -> None:
        self._times: dict[str, _Times] = {}
        self._prompt_tokens = 0
        self._generated_tokens = 0
        self._step_tokens_sum = 0
        self._step_tokens = [0] * (len(STEP_TOKENS_BOUNDS) + 1)
        self._finished: dict[str, int] = {}
        self._pace = Pace()
        self._begun: deque[tuple[Step, float]] = deque()
        self._computed_at = 0.0

    @property
    def num_open(self) -> int:
        """Sequences that arrived and have not ended."""
        return len(self._times)

    def note_arrival(self, seq_id: str, now: float) -> None:
        """It was queued."""
        self._times[seq_id] = _Times(now)

    def note_step(self, step: Step, now: float) -> None:
        """It is about to be computed."""
        for seq_id in step.admitted:
            times = self._times[seq_id]
            if times.admitted_at is None:
                times.admitted_at = now
        self._step_tokens_sum += step.num_tokens
        self._step_tokens[bisect_left(STEP_TOKENS_BOUNDS, step.num_tokens)] += 1
        self._begun.append((step, now))

    def note_computed(self, now: float) -> None:
        """The oldest step that was noted and not computed yet is computed.

        It took the time since then, or since the one before it where that was still on its way.
        """
        step, began_at = self._begun.popleft()
        seconds = now - max(began_at, self._computed_at)
        self._pace.note(step.num_tokens, step.num_rows, seconds)
        self._computed_at = now

    def note_token(self, seq: Sequence, now: float) -> tuple[float, float]:
        """It got a token; with the first one, how long it waited and how long that took."""
        self._generated_tokens += 1
        if len(seq.output_ids) > 1:
            return 0.0, 0.0
        self._prompt_tokens += len(seq.prompt_ids)
        times = self._times[seq.id]
        assert times.admitted_at is not None, f"{seq.id} got a token before its blocks"
        return times.admitted_at - times.arrived_at, now - times.admitted_at

    def note_end(self, seq_id: str, reason: str) -> None:
        """It ended."""
        del self._times[seq_id]
        self.note_refusal(reason)

    def note_refusal(self, reason: str = "error") -> None:
        """It ended before it was queued."""
        self._finished[reason] = self._finished.get(reason, 0) + 1

    def report(self, scheduler: Scheduler) -> Stats:
        """Everything, as it is now."""
        pool, counts = scheduler.pool, scheduler.counts
        return Stats(
            running=scheduler.num_running,
            waiting=scheduler.num_waiting,
            kv_blocks_used=pool.num_used_blocks,
            kv_blocks_total=pool.num_blocks,
            preemptions=counts.preemptions,
            prompt_tokens=self._prompt_tokens,
            generated_tokens=self._generated_tokens,
            prefix_queries=counts.queried_tokens,
            prefix_hits=counts.hit_tokens,
            steps=sum(self._step_tokens),
            step_tokens_sum=self._step_tokens_sum,
            step_tokens=tuple(self._step_tokens),
            finished=dict(self._finished),
            waiting_tokens=scheduler.num_waiting_tokens,
            cached_tokens=pool.num_named_blocks * pool.block_size,
            speed=self._pace.speed(scheduler.limits.max_batched_tokens),
        )
