"""Counts, gauges and histograms of this process, and their Prometheus text.

Knows names and the text format; does not know where the numbers come from. Every series
exists under our prefix, and under vLLM's names too where dashboards and routers look for those.
A few dozen lines of our own: the usual library imports for longer than the rest of the server.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from stoker_runtime.server.generation import Generation
from stoker_runtime.server.histogram import (
    CHOICES,
    REQUEST_S,
    STEP_S,
    TOKENS,
    TTFT_S,
    Histogram,
)
from stoker_runtime.server.refusal import OVERLOADED
from stoker_runtime.wire import NOT_FINITE, STEP_TOKENS_BOUNDS, Loaded, Stats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "stoker_runtime_"
ALIAS = "vllm:"

_FINISH_REASONS = ("stop", "length", "abort", "error")


_SLEEP_STATES = ("awake", "weights_offloaded", "discard_all")
"""By the level of sleep."""
_REJECTED = ("full", OVERLOADED)
_OWN_HELP = {
    "ready": "1 when requests are taken.",
    "slots": "Sequences that run at once.",
    "sequences_active": "Sequences in the engine, running or waiting.",
    "engine_heartbeat_age_seconds": "Since the engine process last gave a sign of life.",
    "process_start_time_seconds": "Unix seconds at which the process began.",
    "resident_bytes": "Weights of models that wait in host memory.",
    "gpu_planned_bytes": "Most that tensors were planned to take of a GPU's memory.",
    "gpu_peak_bytes": "Most that they took.",
}


_HISTOGRAMS: dict[str, tuple[Sequence[float], str]] = {
    "time_to_first_token_seconds": (TTFT_S, "From a request's arrival to its first token."),
    "inter_token_latency_seconds": (STEP_S, "Between a request's steps."),
    "request_time_per_output_token_seconds": (STEP_S, "Per token of an answer after its first."),
    "e2e_request_latency_seconds": (REQUEST_S, "From a request's arrival to its last token."),
    "request_queue_time_seconds": (REQUEST_S, "From reaching the engine to the first step."),
    "request_prefill_time_seconds": (REQUEST_S, "From the first step to the first token."),
    "request_decode_time_seconds": (REQUEST_S, "From a request's first token to its last."),
    "request_inference_time_seconds": (REQUEST_S, "From the first step to the last token."),
    "request_prompt_tokens": (TOKENS, "Prompt tokens of a request."),
    "request_generation_tokens": (TOKENS, "Tokens made for a request."),
    "request_params_n": (CHOICES, "Answers asked for per prompt."),
    "request_params_max_tokens": (TOKENS, "Longest answer that a request allows."),
    "iteration_tokens_total": (STEP_TOKENS_BOUNDS, "Tokens computed in a step."),
}


def _make_histograms() -> dict[str, Histogram]:
    return {name: Histogram(bounds) for name, (bounds, _) in _HISTOGRAMS.items()}


@dataclass(slots=True)
class Metrics:
    """Everything counted."""

    model_name: str
    stats: Stats = field(default_factory=lambda: Stats(0, 0, 0, 0, 0, 0, 0))
    """The engine's last report."""
    loaded: Loaded | None = None
    sleep_level: int = 0
    """0 awake, 1 without KV cache, 2 without weights too."""
    histograms: dict[str, Histogram] = field(default_factory=_make_histograms)
    """By name, without prefix."""
    corrupted: int = 0
    """Sequences whose scores were not finite numbers."""
    finished: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_FINISH_REASONS, 0))
    refused: dict[str, int] = field(default_factory=dict)
    """Error answers by code; the codes are our own, so they are few."""

    def observe_step(self, generation: Generation, now: float) -> None:
        """An engine step brought tokens of a request."""
        if generation.first_token_at:
            self._observe("inter_token_latency_seconds", now - generation.last_token_at)
        else:
            generation.first_token_at = now
            self._observe("time_to_first_token_seconds", now - generation.arrived_at)
        generation.last_token_at = now

    def observe_end(self, generation: Generation, now: float) -> None:
        """A request ended, one way or another."""
        self._observe("e2e_request_latency_seconds", now - generation.arrived_at)
        self._observe("request_prompt_tokens", generation.prompt_tokens)
        self._observe("request_generation_tokens", generation.completion_tokens)
        self._observe("request_params_n", generation.num_per_prompt)
        self._observe("request_params_max_tokens", generation.max_tokens)
        decode_s = generation.last_token_at - generation.first_token_at
        for choice in generation.choices:
            unfinished = "error" if generation.failure else "abort"
            self.finished[choice.finish_reason or unfinished] += 1
            if choice.started:
                self._observe("request_queue_time_seconds", choice.queued_s)
                self._observe("request_prefill_time_seconds", choice.prefill_s)
        if generation.first_token_at:
            self._observe_decode(generation, decode_s)

    def _observe_decode(self, generation: Generation, decode_s: float) -> None:
        """Times of a request that got a token."""
        prefill_s = max(choice.prefill_s for choice in generation.choices)
        longest = max(choice.num_tokens for choice in generation.choices)
        self._observe("request_decode_time_seconds", decode_s)
        self._observe("request_inference_time_seconds", prefill_s + decode_s)
        if longest > 1:
            self._observe("request_time_per_output_token_seconds", decode_s / (longest - 1))

    def _observe(self, name: str, value: float) -> None:
        self.histograms[name].observe(value)

    def count_error(self, error: str) -> None:
        """A sequence failed in the engine."""
        self.corrupted += error == NOT_FINITE

    def count_refusal(self, code: str) -> None:
        """A request was answered with an error."""
        self.refused[code] = self.refused.get(code, 0) + 1

    def render(
        self, own: Mapping[str, float], phases: Mapping[str, float], path: str = "fresh"
    ) -> bytes:
        """The text; `own` are gauges of the process, `phases` the seconds each start phase took.

        `path` says how the model came in: fresh, warm or resident.
        """
        model = f'model_name="{_escape(self.model_name)}"'
        lines: list[str] = []
        for name, kind, help, series in self._families(model):
            for prefix in (PREFIX, ALIAS):
                full = prefix + name
                lines += [f"# HELP {full} {help}", f"# TYPE {full} {kind}"]
                lines += [text.replace("\0", full, 1) for text in series]
        for name, value in own.items():
            lines.append(f"# HELP {PREFIX}{name} {_OWN_HELP.get(name, 'Of this process.')}")
            lines += [f"# TYPE {PREFIX}{name} gauge", f"{PREFIX}{name}{{{model}}} {value}"]
        steps = {f'phase="{name}",path="{path}"': seconds for name, seconds in phases.items()}
        codes = {f'code="{code}"': count for code, count in self.refused.items()}
        for name, kind, help, values in (
            ("startup_phase_seconds", "gauge", "Phases of the start or of the last load.", steps),
            ("refusals_total", "counter", "Error answers by code.", codes),
        ):
            full = PREFIX + name
            lines += [f"# HELP {full} {help}", f"# TYPE {full} {kind}"]
            lines += [f"{full}{{{model},{labels}}} {at}" for labels, at in values.items()]
        return ("\n".join(lines) + "\n").encode()

    def _families(self, model: str) -> Iterator[tuple[str, str, str, list[str]]]:
        """Name, kind, help and series (`\\0` stands for the full name) of what has two names."""
        for name, kind, help, value in self._scalars():
            yield name, kind, help, [f"\0{{{model}}} {value}"]
        reasons = [
            f'\0{{{model},finished_reason="{reason}"}} {count}'
            for reason, count in self.finished.items()
        ]
        yield "request_success_total", "counter", "Answers by how they ended.", reasons
        states = [
            f'\0{{{model},sleep_state="{state}"}} {int(level == self.sleep_level)}'
            for level, state in enumerate(_SLEEP_STATES)
        ]
        yield "engine_sleep_state", "gauge", "1 for the state that holds.", states
        stats = self.stats
        iterations = self.histograms["iteration_tokens_total"]
        iterations.take_over(stats.step_tokens, stats.step_tokens_sum)
        for name, (_, help) in _HISTOGRAMS.items():
            yield name, "histogram", help, list(self.histograms[name].lines("\0", model))
        if self.loaded:
            sizes = f'block_size="{self.loaded.block_size}"'
            sizes += f',num_gpu_blocks="{self.loaded.num_kv_blocks}"'
            yield "cache_config_info", "gauge", "The KV cache's size.", [f"\0{{{model},{sizes}}} 1"]

    def _scalars(self) -> tuple[tuple[str, str, str, float], ...]:
        """Name, kind, help and value of what has one value."""
        stats = self.stats
        usage = stats.kv_blocks_used / stats.kv_blocks_total if stats.kv_blocks_total else 0.0
        rejected = sum(self.refused.get(code, 0) for code in _REJECTED)
        return (
            ("num_requests_running", "gauge", "Sequences computed in the steps.", stats.running),
            ("num_requests_waiting", "gauge", "Sequences that wait for a place.", stats.waiting),
            ("kv_cache_usage_perc", "gauge", "Used part of the KV cache, 0 to 1.", usage),
            ("num_preemptions_total", "counter", "Sequences put back.", stats.preemptions),
            ("prompt_tokens_total", "counter", "Prompt tokens computed.", stats.prompt_tokens),
            ("generation_tokens_total", "counter", "Tokens made.", stats.generated_tokens),
            ("prefix_cache_queries_total", "counter", "Prompt tokens asked.", stats.prefix_queries),
            ("prefix_cache_hits_total", "counter", "Prompt tokens reused.", stats.prefix_hits),
            ("corrupted_requests_total", "counter", "Sequences with NaN scores.", self.corrupted),
            ("admission_rejections_total", "counter", "Requests refused as too many.", rejected),
        )


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def process_start() -> float:
    """Unix seconds at which this process began, before its interpreter was up."""
    with open("/proc/self/stat", encoding="ascii") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / 100
    return time.time() - age_s
