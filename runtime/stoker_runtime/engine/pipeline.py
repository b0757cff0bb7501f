"""Steps on their way from a schedule to drawn tokens, one behind the other.

Knows the runner, the sampler and the order of the work; does not know requests, blocks or when a
step ends a sequence. Driven by the engine. A step is read and laid out when it is launched; what
follows takes nothing from the sequences, so they may change, and a step whose tokens the one before
still draws can be launched behind it. The idea is SGLang's overlapped scheduler and vLLM's
asynchronous one: tokens stay on the device, where the next step takes them.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Rows
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import torch

from stoker_runtime.engine.logprobs import PromptPart, PromptScores, Ranking
from stoker_runtime.engine.runner import Inputs, Runner
from stoker_runtime.engine.sampler import Draw, Drawn, Sampler
from stoker_runtime.engine.spans import spans
from stoker_runtime.engine.transfer import Arrival, fetch, send
from stoker_runtime.schedule.sequence import Sequence
from stoker_runtime.schedule.step import Step
from stoker_runtime.wire import NOT_FINITE

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Work:
    """A step that is read and laid out."""

    inputs: Inputs
    parts: list[PromptPart]
    draw: Draw | None
    """None: nobody's tokens are all there."""
    rows: torch.Tensor | None  # [num_drawing] int64; None: all rows draw
    before: Future[_Made] | None
    """The step that draws tokens of this one, if there are any."""


@dataclass(frozen=True, slots=True)
class _Made:
    """What a step made."""

    drawn: torch.Tensor  # [num_drawing] int64, on the device
    arrived: Arrival
    """The same on the processor; then the tensors of all rankings, those of prompts first."""


@dataclass(frozen=True, slots=True)
class Flight:
    """A step under way."""

    step: Step
    made: Future[_Made]
    work: _Work | None
    """None where `made` has failed before there was any."""


@dataclass(frozen=True, slots=True)
class Landing:
    """What came out of a step, for those who still wait for it."""

    drawn: dict[Sequence, Drawn] = field(default_factory=dict)
    errors: dict[Sequence, str] = field(default_factory=dict)


class Pipeline:
    """A runner and a sampler, and the way of a step through both."""

    def __init__(self, runner: Runner, *, threaded: bool) -> None:
        """A GPU goes on by itself; with `threaded`, a thread computes what follows a launch."""
        ops, vocab = runner.model.ops, runner.model.spec.vocab_size
        self.runner = runner
        self.prompt_scores = PromptScores(runner)
        self.sampler = Sampler(runner.device, vocab, by_kernel=ops.takes_pages)
        self._thread = ThreadPoolExecutor(1, "steps") if threaded else None

    def launch(self, step: Step, before: Flight | None = None) -> Flight:
        """Begin a step; `before` is the one under way, which may draw tokens of this one.

        What goes wrong is raised by `land`.
        """
        try:
            work = self._read(step, before)
        except Exception as error:
            return Flight(step, _fail(error), None)
        return Flight(step, self._submit(lambda: self._compute(work)), work)

    def land(self, flight: Flight) -> Landing:
        """Wait for a step and read what it made; raises what its computation raised."""
        made = flight.made.result()
        assert flight.work is not None, "a step without work has failed"
        parts, draw = flight.work.parts, flight.work.draw
        tokens, *tensors = made.arrived.wait()
        rankings = [Ranking(*some) for some in zip(*[iter(tensors)] * 3, strict=True)]
        for part, ranking in zip(parts, rankings, strict=False):
            if not part.seq.has_ended:
                self.prompt_scores.note(part, ranking)
        landing = Landing()
        if draw is None:
            return landing
        read = draw.read(tokens, rankings[-1] if draw.scored is not None else None)
        for seq, drawn in zip(draw.seqs, read, strict=True):
            if seq.has_ended:
                continue
            if drawn is None:
                landing.errors[seq] = NOT_FINITE
            else:
                landing.drawn[seq] = drawn
        return landing

    def retract(self) -> None:
        """Steps have failed: what they drew does not count, what they wrote is not certain."""
        self.sampler.retract()
        self.runner.forget()

    def clear(self, block_ids: Rows[int]) -> None:
        """Forget what blocks hold, once the steps under way are over."""
        self._submit(lambda: self.runner.clear(block_ids)).result()

    def forget(self, seq_id: str) -> None:
        """A sequence has ended."""
        self.sampler.forget(seq_id)
        self.prompt_scores.take(seq_id)

    @torch.inference_mode()
    def _read(self, step: Step, before: Flight | None) -> _Work:
        ends = [end for _, end in spans(step.chunks)]
        rows = [end - 1 for chunk, end in zip(step.chunks, ends, strict=True) if chunk.samples]
        drawing = step.drawing
        refers = any(chunk.token_ids[-1] < 0 for chunk in step.chunks)
        return _Work(
            inputs=self.runner.lay_out(step.chunks),
            parts=self.prompt_scores.plan(step),
            draw=self.sampler.prepare(drawing) if drawing else None,
            rows=None if len(rows) == ends[-1] else send(rows, torch.int64, self.runner.device),
            before=before.made if refers and before is not None else None,
        )

    @torch.inference_mode()
    def _compute(self, work: _Work) -> _Made:
        inputs, rows = work.inputs, work.rows
        if work.before is not None:
            inputs.resolve(work.before.result().drawn)
        hidden = inputs.forward()
        rankings = self.prompt_scores.rank(work.parts, hidden)
        drawn = torch.empty(0, dtype=torch.int64, device=hidden.device)
        if work.draw is not None:
            ids = inputs.token_ids
            if rows is not None:
                hidden, ids = hidden[rows], ids[rows]
            drawn, ranking = work.draw.make(self.runner.score(hidden), ids)
            rankings += [] if ranking is None else [ranking]
        tensors = [tensor for one in rankings for tensor in (one.own, one.ids, one.values)]
        return _Made(drawn, fetch([drawn, *tensors]))

    def _submit(self, work: Callable[[], T]) -> Future[T]:
        """Compute it behind everything else; a failure is in the future."""
        if self._thread is not None:
            return self._thread.submit(work)
        future = Future[T]()
        try:
            future.set_result(work())
        except Exception as error:
            future.set_exception(error)
        return future


def _fail(error: Exception) -> Future[_Made]:
    future = Future[_Made]()
    future.set_exception(error)
    return future
