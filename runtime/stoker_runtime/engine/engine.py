"""The loop's body: take → schedule → run → commit → publish.

Knows requests as wire messages, the scheduler, the runner and the sampler; does not know sockets.
Driven by `process`. A failure in one request ends that request alone.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field
from time import monotonic

import torch

from stoker_runtime.engine.account import Account
from stoker_runtime.engine.logprobs import PromptScores
from stoker_runtime.engine.runner import Runner, spans
from stoker_runtime.engine.sampler import Drawn, Sampler
from stoker_runtime.errors import EngineCrashed, RequestInvalid
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.scheduler import Counts, Scheduler
from stoker_runtime.schedule.sequence import Sequence
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import NOT_FINITE, ErrorCode, Generate, Output, Stats, TokenLogprob

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Draws:
    """What a step made: tokens by sequence, and errors of those that could not be computed."""

    tokens: dict[str, Drawn] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


class Engine:
    """Sequences in, tokens out, one step at a time."""

    def __init__(self, runner: Runner, scheduler: Scheduler, seed: int) -> None:
        self._runner = runner
        self._scheduler = scheduler
        self._spec = runner.model.spec
        self._seeds = random.Random(seed)
        self._end_ids = frozenset(self._spec.eos_token_ids)
        self._sampler = Sampler(by_kernel=runner.model.ops.takes_pages)
        self._prompt_scores = PromptScores(runner)
        self._account = Account()

    @property
    def runner(self) -> Runner:
        """The model and its cache, for those who measure it."""
        return self._runner

    @property
    def has_work(self) -> bool:
        """A call of `step` would compute something."""
        return self._scheduler.has_work

    @property
    def can_prepare(self) -> bool:
        """A call of `step` without work would make later ones faster."""
        return self._runner.can_prepare

    @property
    def stats(self) -> Stats:
        """Gauges and counters as they are now."""
        return self._account.report(self._scheduler)

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
        """Compute one step; what came out of it."""
        step = self._scheduler.schedule()
        if step is None:
            if self.can_prepare:
                self._runner.prepare()
            return []
        for seq_id in step.preempted:
            log.info("preempted %s: the KV cache is full", seq_id)
        self._account.note_step(step, monotonic())
        draws = self._run(step.chunks)
        now = monotonic()
        self._account.note_computed(now)
        failed = [self._fail(seq_id, error) for seq_id, error in draws.errors.items()]
        tokens = {seq_id: drawn.token_id for seq_id, drawn in draws.tokens.items()}
        advanced = self._scheduler.commit(step, tokens)
        return failed + [self._publish(seq, draws.tokens[seq.id], now) for seq in advanced]

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

    def _run(self, chunks: Rows[Chunk]) -> _Draws:
        """Compute all chunks together, or each alone if that fails, to find the one to blame."""
        try:
            return self._run_together(chunks)
        except Exception as error:  # whatever it is, it must not end the other sequences
            log.exception("a step of %d sequences failed", len(chunks))
            if len(chunks) == 1:
                return _Draws(errors={chunks[0].seq_id: f"{type(error).__name__}: {error}"})
        draws = _Draws()
        for chunk in chunks:
            alone = self._run((chunk,))
            draws.tokens |= alone.tokens
            draws.errors |= alone.errors
        return draws

    def _run_together(self, chunks: Rows[Chunk]) -> _Draws:
        hidden = self._runner.compute(chunks)
        self._prompt_scores.add(chunks, hidden, self._scheduler.find)
        ends = zip(chunks, spans(chunks), strict=True)
        rows = {chunk.seq_id: end - 1 for chunk, (_, end) in ends if chunk.samples}
        if not rows:
            return _Draws()
        ids = list(rows)
        logits = self._runner.score(hidden[torch.tensor(list(rows.values()), device=hidden.device)])
        seqs = [seq for id in ids if (seq := self._scheduler.find(id))]
        draws = _Draws()
        for id, drawn in zip(ids, self._sampler.draw(logits, seqs), strict=True):
            if drawn is None:
                draws.errors[id] = NOT_FINITE
            else:
                draws.tokens[id] = drawn
        return draws

    def _refuse(self, seq_id: str, code: ErrorCode, error: str) -> Output:
        self._account.note_refusal()
        return Output(seq_id, [], finish_reason="error", error=error, error_code=code)

    def _fail(self, seq_id: str, error: str) -> Output:
        self._runner.clear(self._scheduler.fail(seq_id))
        self._close(seq_id, "error")
        return Output(seq_id, [], finish_reason="error", error=error, error_code="internal")

    def _close(self, seq_id: str, reason: str) -> None:
        """Nothing is kept of a sequence that has ended."""
        self._account.note_end(seq_id, reason)
        self._sampler.forget(seq_id)
        self._prompt_scores.take(seq_id)

    def _publish(self, seq: Sequence, drawn: Drawn, now: float) -> Output:
        queued_s, prefill_s = self._account.note_token(seq, now)
        is_first = len(seq.output_ids) == 1
        prompt_logprobs = self._prompt_scores.take(seq.id) if is_first else []
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
