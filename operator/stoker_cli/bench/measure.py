"""What a run measured: one sample per request, and the figures of many.

Knows the definitions of TTFT, TPOT, inter-token latency and goodput; does not know clocks, HTTP
or tables. Pure: instants are seconds of one clock, whichever it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from stoker_api.quantile import pick_quantile

CUT = "cut by Ctrl-C"
"""The error of a request that ran when the measurement was interrupted."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request, from its schedule to its end."""

    scheduled_at: float
    """When it was due. In a closed loop that is when it was sent."""
    sent_at: float
    ended_at: float
    first_token_at: float | None = None
    last_token_at: float | None = None
    gaps_s: tuple[float, ...] = ()
    """Between pieces of the answer as they arrived."""
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, as the server reports it."""
    is_counted: bool = False
    """Tokens are the server's `usage`; else pieces of the answer were counted."""
    error: str = ""
    """The kind of failure; empty: a whole answer."""

    @property
    def is_ok(self) -> bool:
        """Whether the answer came whole."""
        return not self.error

    @property
    def queue_s(self) -> float:
        """How long it waited here, after it was due."""
        return self.sent_at - self.scheduled_at

    @property
    def ttft_s(self) -> float | None:
        """Sent → first token."""
        return None if self.first_token_at is None else self.first_token_at - self.sent_at

    @property
    def ttft_due_s(self) -> float | None:
        """Due → first token: what a user felt, even when the load generator was late."""
        return None if self.first_token_at is None else self.first_token_at - self.scheduled_at

    @property
    def tpot_s(self) -> float | None:
        """Mean time per output token after the first; None for answers of one token."""
        if self.first_token_at is None or self.last_token_at is None or self.output_tokens < 2:
            return None
        return (self.last_token_at - self.first_token_at) / (self.output_tokens - 1)

    @property
    def e2e_s(self) -> float:
        """Sent → end."""
        return self.ended_at - self.sent_at

    @property
    def e2e_due_s(self) -> float:
        """Due → end."""
        return self.ended_at - self.scheduled_at


@dataclass(frozen=True, slots=True)
class Goals:
    """What a good answer keeps, in seconds; the TTFT counts from when the request was due."""

    ttft_s: float
    tpot_s: float

    def are_met(self, sample: Sample) -> bool:
        """Whether the answer came whole and in time."""
        if not sample.is_ok or sample.ttft_due_s is None or sample.ttft_due_s > self.ttft_s:
            return False
        return sample.tpot_s is None or sample.tpot_s <= self.tpot_s


@dataclass(frozen=True, slots=True)
class Distribution:
    """Percentiles of a quantity, and of how many values they are."""

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    highest: float


@dataclass(frozen=True, slots=True)
class Summary:
    """The figures of a run."""

    num_requests: int
    """All that ended; those cut by Ctrl-C are not among them."""
    num_ok: int
    num_cut: int
    num_good: int
    """Whole answers that kept the goals."""
    duration_s: float
    """From when the first request was due to the end of the last one."""
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    is_counted: bool
    """All token counts are the server's."""
    errors: dict[str, int] = field(default_factory=dict)
    """Kind of failure → how many."""
    distributions: dict[str, Distribution] = field(default_factory=dict)
    """`ttft_s`, `ttft_due_s`, `tpot_s`, `itl_s`, `e2e_s`, `e2e_due_s`, `queue_s`; whole answers."""

    @property
    def request_rate(self) -> float:
        """Whole answers per second."""
        return self._per_second(self.num_ok)

    @property
    def input_rate(self) -> float:
        """Prompt tokens per second."""
        return self._per_second(self.input_tokens)

    @property
    def output_rate(self) -> float:
        """Answer tokens per second."""
        return self._per_second(self.output_tokens)

    @property
    def goodput_rate(self) -> float:
        """Answers per second that kept the goals."""
        return self._per_second(self.num_good)

    @property
    def goodput_share(self) -> float:
        """Part of all requests, failed ones too, that kept the goals; 0 to 1."""
        return self.num_good / self.num_requests if self.num_requests else 0.0

    def _per_second(self, count: int) -> float:
        return count / self.duration_s if self.duration_s > 0 else 0.0


def summarize(samples: Sequence[Sample], goals: Goals) -> Summary:
    """The figures of a run's samples, in any order."""
    ended = [sample for sample in samples if sample.error != CUT]
    ok = [sample for sample in ended if sample.is_ok]
    first = min((sample.scheduled_at for sample in ended), default=0.0)
    last = max((sample.ended_at for sample in ended), default=0.0)
    errors = Counter(sample.error for sample in ended if not sample.is_ok)
    return Summary(
        num_requests=len(ended),
        num_ok=len(ok),
        num_cut=len(samples) - len(ended),
        num_good=sum(goals.are_met(sample) for sample in ok),
        duration_s=last - first,
        input_tokens=sum(sample.input_tokens for sample in ok),
        output_tokens=sum(sample.output_tokens for sample in ok),
        cached_tokens=sum(sample.cached_tokens for sample in ok),
        is_counted=all(sample.is_counted for sample in ok),
        errors=dict(errors.most_common()),
        distributions=_distribute(ok),
    )


def _distribute(samples: Sequence[Sample]) -> dict[str, Distribution]:
    quantities: dict[str, list[float | None]] = {
        "ttft_s": [sample.ttft_s for sample in samples],
        "ttft_due_s": [sample.ttft_due_s for sample in samples],
        "tpot_s": [sample.tpot_s for sample in samples],
        "itl_s": [gap for sample in samples for gap in sample.gaps_s],
        "e2e_s": [sample.e2e_s for sample in samples],
        "e2e_due_s": [sample.e2e_due_s for sample in samples],
        "queue_s": [sample.queue_s for sample in samples],
    }
    known = {name: [v for v in values if v is not None] for name, values in quantities.items()}
    return {name: describe(values) for name, values in known.items() if values}


def describe(values: Sequence[float]) -> Distribution:
    """The distribution of at least one value."""
    ordered = sorted(values)
    p50, p90, p99 = (pick_quantile(ordered, share) for share in (0.5, 0.9, 0.99))
    mean = sum(ordered) / len(ordered)
    return Distribution(len(ordered), mean, p50, p90, p99, ordered[-1])
