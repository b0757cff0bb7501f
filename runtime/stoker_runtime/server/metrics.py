"""Counts, gauges and histograms of this process, and their Prometheus text.

Knows names, buckets and the text format; does not know where the numbers come from. Every series
exists under our prefix, and under vLLM's names too where dashboards and routers look for those.
A few dozen lines of our own: the usual library imports for longer than the rest of the server.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from stoker_runtime.server.generation import Generation
from stoker_runtime.wire import Loaded, Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "stoker_runtime_"
ALIAS = "vllm:"

_TTFT_S: tuple[float, ...] = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
)
_TTFT_S += (10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0)
_STEP_S: tuple[float, ...] = (
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.15,
    0.2,
    0.3,
    0.4,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
)
_STEP_S += (10.0, 20.0, 40.0, 80.0)
_REQUEST_S: tuple[float, ...] = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
)
_REQUEST_S += (120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)
_TOKENS = tuple(float(digit * 10**power) for power in range(6) for digit in (1, 2, 5))

_FINISH_REASONS = ("stop", "length", "abort", "error")


class Histogram:
    """Observations counted by upper bounds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        """Count nothing yet."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> Iterator[str]:
        """The series, cumulative as Prometheus wants them."""
        total = 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
        yield f"{name}_sum{{{labels}}} {self._sum}"
        yield f"{name}_count{{{labels}}} {total}"


@dataclass(slots=True)
class Metrics:
    """Everything counted."""

    model_name: str
    stats: Stats = field(default_factory=lambda: Stats(0, 0, 0, 0, 0, 0, 0))
    """The engine's last report."""
    loaded: Loaded | None = None
    time_to_first_token_s: Histogram = field(default_factory=lambda: Histogram(_TTFT_S))
    inter_token_s: Histogram = field(default_factory=lambda: Histogram(_STEP_S))
    request_s: Histogram = field(default_factory=lambda: Histogram(_REQUEST_S))
    prompt_tokens: Histogram = field(default_factory=lambda: Histogram(_TOKENS))
    answer_tokens: Histogram = field(default_factory=lambda: Histogram(_TOKENS))
    asked_tokens: int = 0
    cached_tokens: int = 0
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_FINISH_REASONS, 0))
    refused: dict[str, int] = field(default_factory=dict)
    """Error answers by code; the codes are our own, so they are few."""

    def observe_step(self, generation: Generation, now: float) -> None:
        """An engine step brought tokens of a request."""
        if generation.first_token_at:
            self.inter_token_s.observe(now - generation.last_token_at)
        else:
            generation.first_token_at = now
            self.time_to_first_token_s.observe(now - generation.arrived_at)
        generation.last_token_at = now

    def observe_end(self, generation: Generation, now: float) -> None:
        """A request ended, one way or another."""
        self.request_s.observe(now - generation.arrived_at)
        self.prompt_tokens.observe(generation.prompt_tokens)
        self.answer_tokens.observe(generation.completion_tokens)
        self.asked_tokens += generation.prompt_tokens
        self.cached_tokens += generation.cached_tokens
        for choice in generation.choices:
            unfinished = "error" if generation.failure else "abort"
            self.finished[choice.finish_reason or unfinished] += 1

    def count_refusal(self, code: str) -> None:
        """A request was answered with an error."""
        self.refused[code] = self.refused.get(code, 0) + 1

    def render(self, own: Mapping[str, float], phases: Mapping[str, float]) -> bytes:
        """The text; `own` are gauges of the process, `phases` the seconds each start phase took."""
        model = f'model_name="{_escape(self.model_name)}"'
        lines: list[str] = []
        for name, kind, help, series in self._families(model):
            for prefix in (PREFIX, ALIAS):
                full = prefix + name
                lines += [f"# HELP {full} {help}", f"# TYPE {full} {kind}"]
                lines += [text.replace("\0", full, 1) for text in series]
        for name, value in own.items():
            lines += [f"# TYPE {PREFIX}{name} gauge", f"{PREFIX}{name}{{{model}}} {value}"]
        lines += _labelled("startup_phase_seconds", "gauge", "phase", phases, model)
        lines += _labelled("refusals_total", "counter", "code", self.refused, model)
        return ("\n".join(lines) + "\n").encode()

    def _families(self, model: str) -> Iterator[tuple[str, str, str, list[str]]]:
        """Name, kind, help and series (`\\0` stands for the full name) of what has two names."""
        stats = self.stats
        usage = stats.kv_blocks_used / stats.kv_blocks_total if stats.kv_blocks_total else 0.0
        scalars = (
            ("num_requests_running", "gauge", "Sequences computed in the steps.", stats.running),
            ("num_requests_waiting", "gauge", "Sequences that wait for a place.", stats.waiting),
            ("kv_cache_usage_perc", "gauge", "Used part of the KV cache, 0 to 1.", usage),
            ("num_preemptions_total", "counter", "Sequences put back.", stats.preemptions),
            ("prompt_tokens_total", "counter", "Prompt tokens computed.", stats.prompt_tokens),
            ("generation_tokens_total", "counter", "Tokens made.", stats.generated_tokens),
            ("prefix_cache_queries_total", "counter", "Prompt tokens asked.", self.asked_tokens),
            ("prefix_cache_hits_total", "counter", "Prompt tokens reused.", self.cached_tokens),
        )
        for name, kind, help, value in scalars:
            yield name, kind, help, [f"\0{{{model}}} {value}"]
        reasons = [
            f'\0{{{model},finished_reason="{reason}"}} {count}'
            for reason, count in self.finished.items()
        ]
        yield "request_success_total", "counter", "Answers by how they ended.", reasons
        histograms = (
            ("time_to_first_token_seconds", "Arrival to first token.", self.time_to_first_token_s),
            ("inter_token_latency_seconds", "Between a request's steps.", self.inter_token_s),
            ("e2e_request_latency_seconds", "Arrival to last token.", self.request_s),
            ("request_prompt_tokens", "Prompt tokens of a request.", self.prompt_tokens),
            ("request_generation_tokens", "Tokens made for a request.", self.answer_tokens),
        )
        for name, help, histogram in histograms:
            yield name, "histogram", help, list(histogram.lines("\0", model))
        if self.loaded:
            sizes = f'block_size="{self.loaded.block_size}"'
            sizes += f',num_gpu_blocks="{self.loaded.num_kv_blocks}"'
            yield "cache_config_info", "gauge", "The KV cache's size.", [f"\0{{{model},{sizes}}} 1"]


def _labelled(
    name: str, kind: str, label: str, values: Mapping[str, float], model: str
) -> list[str]:
    full = PREFIX + name
    series = [f'{full}{{{model},{label}="{key}"}} {value}' for key, value in values.items()]
    return [f"# TYPE {full} {kind}", *series]


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def process_start() -> float:
    """Unix seconds at which this process began, before its interpreter was up."""
    with open("/proc/self/stat", encoding="ascii") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / 100
    return time.time() - age_s
