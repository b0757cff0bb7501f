"""Results for people (tables) and for programs (JSON, whose schema `docs/bench.md` describes).

Knows how figures are written; does not know how they were measured. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from rich.table import Table

from stoker_cli.bench.measure import Distribution, Sample, Summary
from stoker_cli.bench.plan import Plan

SCHEMA = "stoker-bench/1"
_ROWS = {
    "ttft_s": ("time to first token", "ms"),
    "ttft_due_s": ("… from when it was due", "ms"),
    "tpot_s": ("time per output token", "ms"),
    "itl_s": ("between two pieces", "ms"),
    "e2e_s": ("whole answer", "s"),
    "e2e_due_s": ("… from when it was due", "s"),
    "queue_s": ("sent too late by", "ms"),
}
_FROM_SCHEDULE = ("ttft_due_s", "e2e_due_s", "queue_s")
"""Of interest in an open loop alone; in a closed one they say the same again."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run against one server."""

    url: str
    model: str
    round: int
    """From 1; every server has one run per round."""
    summary: Summary
    samples: tuple[Sample, ...]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The second server's figures over the first's, in one round."""

    round: int
    output_rate: float | None
    """Tokens per second; above 1 the second is better."""
    goodput_rate: float | None
    ttft_p50: float | None
    """Below 1 the second is better, as with all times."""
    ttft_p99: float | None
    tpot_p50: float | None
    e2e_p50: float | None


def draw_summary(result: Result, is_open: bool) -> Table:
    """The table of one run."""
    table = Table(title=f"{result.model} at {result.url}", title_justify="left", box=None)
    table.add_column("", no_wrap=True)
    for name in ("p50", "p90", "p99", "mean", "max", "count"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, (words, unit) in _ROWS.items():
        found = result.summary.distributions.get(name)
        if found and (is_open or name not in _FROM_SCHEDULE):
            table.add_row(f"{words} ({unit})", *_cells(found, unit))
    return table


def _cells(found: Distribution, unit: str) -> list[str]:
    factor, digits = (1000, 1) if unit == "ms" else (1, 2)
    values = (found.p50, found.p90, found.p99, found.mean, found.highest)
    return [f"{value * factor:.{digits}f}" for value in values] + [str(found.count)]


def write_lines(summary: Summary, plan: Plan) -> list[str]:
    """What a run did as a whole, one sentence a line."""
    failed = summary.num_requests - summary.num_ok
    kinds = ", ".join(f"{count} × {kind}" for kind, count in summary.errors.items())
    lines = [
        f"{summary.num_ok} answers in {summary.duration_s:.1f} s "
        f"({summary.request_rate:.2f}/s), {failed} failed{f': {kinds}' if kinds else ''}",
        f"tokens/s: {summary.output_rate:.1f} out, {summary.input_rate:.1f} in "
        f"({summary.output_tokens} and {summary.input_tokens}, "
        f"{summary.cached_tokens} from the prefix cache)",
        f"goodput: {summary.goodput_share:.1%} of the requests, {summary.goodput_rate:.2f}/s, "
        f"kept TTFT ≤ {plan.goals.ttft_s:g} s and TPOT ≤ {plan.goals.tpot_s * 1000:g} ms",
    ]
    if summary.num_cut:
        lines.append(f"{summary.num_cut} requests were cut when the run was interrupted")
    if summary.num_ok and not summary.is_counted:
        lines.append("the server reports no usage: output tokens are pieces of the stream")
    return lines


def compare(results: Sequence[Result]) -> list[Ratio]:
    """The ratios of every round in which both servers were measured, first and second by turns."""
    pairs = zip(results[::2], results[1::2], strict=False)
    return [_divide(first, second) for first, second in pairs]


def _divide(first: Result, second: Result) -> Ratio:
    one, other = first.summary, second.summary

    def times(name: str, share: str) -> float | None:
        a, b = one.distributions.get(name), other.distributions.get(name)
        return _over(getattr(b, share), getattr(a, share)) if a and b else None

    return Ratio(
        round=first.round,
        output_rate=_over(other.output_rate, one.output_rate),
        goodput_rate=_over(other.goodput_rate, one.goodput_rate),
        ttft_p50=times("ttft_due_s", "p50"),
        ttft_p99=times("ttft_due_s", "p99"),
        tpot_p50=times("tpot_s", "p50"),
        e2e_p50=times("e2e_due_s", "p50"),
    )


def _over(above: float, below: float) -> float | None:
    return above / below if below > 0 else None


def draw_ratios(ratios: Sequence[Ratio]) -> Table:
    """A row per round, and the medians."""
    title = "second over first: rates above 1 and times below 1 speak for the second"
    table = Table(title=title, title_justify="left", box=None)
    names = [name for name in Ratio.__dataclass_fields__ if name != "round"]
    for name in ("round", *names):
        table.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for ratio in ratios:
        table.add_row(str(ratio.round), *(_write(getattr(ratio, name)) for name in names))
    if ratios:
        known = {name: [v for r in ratios if (v := getattr(r, name)) is not None] for name in names}
        middle = (_write(median(values) if values else None) for values in known.values())
        table.add_row("median", *middle, style="bold")
    return table


def _write(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.3f}"


def build_document(plan: Plan, run_id: str, results: Sequence[Result]) -> dict[str, object]:
    """The JSON document."""
    return {
        "schema": SCHEMA,
        "run_id": run_id,
        "load": _load(plan),
        "runs": [_run(result) for result in results],
        "ratios": [asdict(ratio) for ratio in compare(results)] if _is_pair(results) else [],
    }


def _is_pair(results: Sequence[Result]) -> bool:
    return len(results) > 1 and results[0].round == results[1].round


def _load(plan: Plan) -> dict[str, object]:
    load = asdict(plan)
    load["trace"] = len(plan.trace)
    load["loop"] = "open" if plan.is_open else "closed"
    return load


def _run(result: Result) -> dict[str, object]:
    summary, first = result.summary, min((s.scheduled_at for s in result.samples), default=0.0)
    rates = ("request_rate", "input_rate", "output_rate", "goodput_rate", "goodput_share")
    return {
        "url": result.url,
        "model": result.model,
        "round": result.round,
        **asdict(summary),
        **{name: getattr(summary, name) for name in rates},
        "requests": [_request(sample, first) for sample in result.samples],
    }


def _request(sample: Sample, first: float) -> dict[str, object]:
    return {
        "due_s": round(sample.scheduled_at - first, 6),
        "queue_s": round(sample.queue_s, 6),
        "ttft_s": sample.ttft_s,
        "tpot_s": sample.tpot_s,
        "e2e_s": sample.e2e_s,
        "input_tokens": sample.input_tokens,
        "output_tokens": sample.output_tokens,
        "cached_tokens": sample.cached_tokens,
        "error": sample.error,
    }
