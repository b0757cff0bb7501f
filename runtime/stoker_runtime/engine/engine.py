"""The loop's body: take → schedule → run → commit → publish.

Knows requests as wire messages, the scheduler, the runner and the sampler; does not know sockets.
Driven by `process`. A failure in one request ends that request alone.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from dataclasses import replace
from time import monotonic

import msgspec

from stoker_runtime.engine.account import Account
from stoker_runtime.engine.pipeline import Flight, Landing, Pipeline
from stoker_runtime.engine.runner import Runner
from stoker_runtime.engine.sampler import Drawn
from stoker_runtime.engine.watch import Watch
from stoker_runtime.errors import EngineCrashed, RequestInvalid
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.scheduler import Counts, Scheduler
from stoker_runtime.schedule.sequence import Sequence
from stoker_runtime.schedule.step import Step
from stoker_runtime.wire import ErrorCode, Generate, Output, Stats, TokenLogprob

log = logging.getLogger(__name__)


class Engine:
    """Sequences in, tokens out, one step at a time.

    With `overlaps`, a step is scheduled and launched while the one before it is computed. It takes
    for granted that nobody ends but by length: the token of one who did is computed for nobody.
    What it can't take for granted waits: a step that would take blocks away from somebody.
    """

    def __init__(
        self,
        runner: Runner,
        scheduler: Scheduler,
        seed: int,
        *,
        overlaps: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._spec = runner.model.spec
        self._seeds = random.Random(seed)
        self._end_ids = frozenset(self._spec.eos_token_ids)
        self._pipeline = Pipeline(runner, threaded=overlaps and runner.device.type == "cpu")
        self._overlaps = overlaps
        self._watch = watch
        self._flight: Flight | None = None
        self._account = Account()

    @property
    def runner(self) -> Runner:
        """The model and its cache, for those who measure it."""
        return self._runner

    @property
    def has_work(self) -> bool:
        """A call of `step` would compute something."""
        return self._flight is not None or self._scheduler.has_work

    @property
    def can_prepare(self) -> bool:
        """A call of `step` without work would make later ones faster."""
        return self._runner.can_prepare

    @property
    def stats(self) -> Stats:
        """Gauges and counters as they are now."""
        stats = self._account.report(self._scheduler)
        if (watch := self._watch) is None:
            return stats
        sizes = {"gpu_planned_bytes": watch.planned_bytes, "gpu_peak_bytes": watch.look()}
        return msgspec.structs.replace(stats, **sizes)

    def submit(self, request: Generate) -> list[Output]:
        """Queue a sequence; one that can't run is answered at once."""
        try:
            self._check(request)
        except RequestInvalid as error:
            return [self._refuse(request.id, "invalid", str(error))]
        if not self._scheduler.has_room_for(len(request.prompt_ids)):
            waiting = f"{self._scheduler.num_waiting} sequences are waiting already"
            return [self._refuse(request.id, "overloaded", f"{waiting}; try again later")]
        seed = request.params.seed
        self._scheduler.add(
            Sequence(
                id=request.id,
                prompt_ids=tuple(request.prompt_ids),
                params=request.params,
                end_ids=self._end_ids,
                seed=self._seeds.getrandbits(63) if seed is None else seed,
                priority=request.priority,
                salt=request.cache_salt,
            )
        )
        self._account.note_arrival(request.id, monotonic())
        return []

    def abort(self, ids: Iterable[str]) -> list[Output]:
        """End sequences now, whatever they wait for."""
        ended = [seq for id in ids if (seq := self._scheduler.abort(id))]
        for seq in ended:
            self._close(seq.id, "abort")
        return [Output(seq.id, [], finish_reason="abort") for seq in ended]

    def step(self) -> list[Output]:
        """Compute one step, and begin the next one if that is to overlap; what came out of it."""
        flight = self._flight or self._launch()
        if flight is None:
            if self.can_prepare:
                self._runner.prepare()
            return []
        self._flight = self._launch(flight) if self._overlaps else None
        return self._land(flight)

    def warm_up(self) -> None:
        """Make one token for nobody, so that `Loaded` is said of a model that works."""
        request = Generate("warm-up", [0], SamplingParams(max_tokens=1, temperature=0.0))
        outputs = self.submit(request) or self.step()
        if outputs[0].error:
            raise EngineCrashed(f"the first token failed: {outputs[0].error}")
        self._account = Account()
        self._scheduler.counts = Counts()

    def _check(self, request: Generate) -> None:
        vocab, length = self._spec.vocab_size, self._scheduler.limits.max_model_len
        if not request.prompt_ids:
            raise RequestInvalid("the prompt must have at least one token")
        if len(request.prompt_ids) >= length:
            raise RequestInvalid(
                f"the prompt must be shorter than {length} tokens, was {len(request.prompt_ids)}"
            )
        for name, ids in (
            ("prompt", request.prompt_ids),
            ("logit_bias", tuple(request.params.logit_bias)),
        ):
            if ids and not 0 <= (bad := min(ids)) <= (worst := max(ids)) < vocab:
                bad = bad if bad < 0 else worst
                raise RequestInvalid(f"{name}: token {bad} is not in the vocabulary of {vocab}")
        if self._scheduler.find(request.id):
            raise RequestInvalid(f"{request.id} is running already")

    def _launch(self, before: Flight | None = None) -> Flight | None:
        step = self._scheduler.schedule(ahead=before is not None)
        if step is None:
            return None
        for seq_id in step.preempted:
            log.info("preempted %s: the KV cache is full", seq_id)
        self._account.note_step(step, monotonic())
        flight = self._pipeline.launch(step, before)
        self._scheduler.advance(step)
        return flight

    def _land(self, flight: Flight) -> list[Output]:
        try:
            landing = self._pipeline.land(flight)
        except Exception:  # whatever it is, it must not end the other sequences
            log.exception("a step of %d sequences failed", len(flight.step.chunks))
            landing = self._compute_alone(flight.step)
        now = monotonic()
        self._account.note_computed(now)
        failed = [self._fail(seq.id, error) for seq, error in landing.errors.items()]
        tokens = {seq.id: drawn.token_id for seq, drawn in landing.drawn.items()}
        advanced = self._scheduler.commit(flight.step, tokens)
        return failed + [self._publish(seq, landing.drawn[seq], now) for seq in advanced]

    def _compute_alone(self, step: Step) -> Landing:
        """Each sequence of a failed step for itself, to find the one to blame.

        A step behind it has read what this one did not make: it is forgotten.
        """
        self._scheduler.retract()
        self._pipeline.retract()
        if self._flight is not None:
            self._account.note_computed(monotonic())
            self._flight = None
        landing = Landing()
        for chunk, seq in zip(step.chunks, step.seqs, strict=True):
            if seq.has_ended:
                continue
            chunk = replace(chunk, token_ids=seq.slice_tokens(chunk.start, chunk.end))
            try:
                alone = self._pipeline.land(self._pipeline.launch(Step((chunk,), (seq,))))
            except Exception as error:
                log.exception("%s can not be computed", seq.id)
                landing.errors[seq] = f"{type(error).__name__}: {error}"
            else:
                landing.drawn.update(alone.drawn)
                landing.errors.update(alone.errors)
        return landing

    def _refuse(self, seq_id: str, code: ErrorCode, error: str) -> Output:
        self._account.note_refusal()
        return Output(seq_id, [], finish_reason="error", error=error, error_code=code)

    def _fail(self, seq_id: str, error: str) -> Output:
        self._pipeline.clear(self._scheduler.fail(seq_id))
        self._close(seq_id, "error")
        return Output(seq_id, [], finish_reason="error", error=error, error_code="internal")

    def _close(self, seq_id: str, reason: str) -> None:
        """Nothing is kept of a sequence that has ended."""
        self._account.note_end(seq_id, reason)
        self._pipeline.forget(seq_id)

    def _publish(self, seq: Sequence, drawn: Drawn, now: float) -> Output:
        queued_s, prefill_s = self._account.note_token(seq, now)
        is_first = len(seq.output_ids) == 1
        prompt_logprobs = self._pipeline.prompt_scores.take(seq.id) if is_first else []
        if seq.finish_reason is not None:
            self._close(seq.id, seq.finish_reason)
        asked = drawn.logprob is not None
        top = [TokenLogprob(id, value) for id, value in drawn.top]
        return Output(
            seq.id,
            [drawn.token_id],
            finish_reason=seq.finish_reason,
            num_cached_tokens=seq.num_cached_tokens if is_first else 0,
            logprobs=[TokenLogprob(drawn.token_id, drawn.logprob or 0.0)] if asked else [],
            top_logprobs=[top] if asked else [],
            prompt_logprobs=prompt_logprobs,
            queued_s=queued_s,
            prefill_s=prefill_s,
        )
