"""The metrics page is what Prometheus reads."""

from __future__ import annotations

import asyncio
import time

from prometheus_client.parser import text_string_to_metric_families

from stoker_runtime.server.generation import Choice, Generation, TextRules
from stoker_runtime.server.metrics import Metrics, process_start
from stoker_runtime.wire import Loaded, Output, Stats


class Letters:
    """Token `n` is byte `n`."""

    def token_bytes(self, id: int) -> bytes:
        return bytes([id])

    def is_special(self, id: int) -> bool:
        return False


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample by name and labels other than the model's."""
    found = {}
    text = metrics.render({"slots": 4.0}, {"weights": 1.5}).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            assert sample.labels.pop("model_name") == 'a "name"\\'
            labels = ",".join(f"{key}={value}" for key, value in sample.labels.items())
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_the_page_parses_and_holds_what_was_counted() -> None:
    metrics = Metrics('a "name"\\', Stats(2, 3, 16, 64, 5, 600, 700))
    metrics.loaded = Loaded(4, 256, 64, 16, 320, (2,))
    choice = Choice(0, Letters(), TextRules())
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    generation = Generation([choice], 100.0, done, prompt_tokens=10)
    for now in (100.05, 100.06, 100.08):
        choice.feed(Output("1", [97], "length" if now > 100.07 else None, 4))
        metrics.observe_step(generation, now)
    metrics.observe_end(generation, 100.1)
    metrics.count_refusal("full")
    found = samples(metrics)
    for prefix in ("stoker_runtime_", "vllm:"):
        assert found[f"{prefix}num_requests_running{{}}"] == 2
        assert found[f"{prefix}num_requests_waiting{{}}"] == 3
        assert found[f"{prefix}kv_cache_usage_perc{{}}"] == 0.25
        assert found[f"{prefix}generation_tokens_total{{}}"] == 700
        assert found[f"{prefix}prefix_cache_hits_total{{}}"] == 4
        assert found[f"{prefix}prefix_cache_queries_total{{}}"] == 10
        assert found[f"{prefix}request_success_total{{finished_reason=length}}"] == 1
        assert found[f"{prefix}time_to_first_token_seconds_bucket{{le=0.04}}"] == 0
        assert found[f"{prefix}time_to_first_token_seconds_bucket{{le=0.06}}"] == 1
        assert found[f"{prefix}inter_token_latency_seconds_count{{}}"] == 2
        assert found[f"{prefix}request_generation_tokens_sum{{}}"] == 3
        assert found[f"{prefix}cache_config_info{{block_size=16,num_gpu_blocks=64}}"] == 1
    assert found["stoker_runtime_startup_phase_seconds{phase=weights}"] == 1.5
    assert found["stoker_runtime_refusals_total{code=full}"] == 1
    assert found["stoker_runtime_slots{}"] == 4


def test_buckets_are_cumulative_and_end_with_all() -> None:
    metrics = Metrics('a "name"\\')
    for value in (0.0005, 0.3, 99999.0):
        metrics.time_to_first_token_s.observe(value)
    buckets = [
        value
        for name, value in samples(metrics).items()
        if name.startswith("vllm:time_to_first_token_seconds_bucket")
    ]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-2], buckets[-1]) == (1, 2, 3)


def test_the_process_began_before_now_and_not_long_ago() -> None:
    assert time.time() - 3600 * 24 < process_start() <= time.time() + 0.05
