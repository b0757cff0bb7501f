"""The metrics page is what Prometheus reads."""

from __future__ import annotations

import asyncio
import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stoker_runtime.server.generation import Choice, Generation, TextRules
from stoker_runtime.server.metrics import Metrics, process_start
from stoker_runtime.wire import NOT_FINITE, Loaded, Output, Stats
from support.letters import Letters


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


EXPECTED = {
    "num_requests_running{}": 2,
    "num_requests_waiting{}": 3,
    "kv_cache_usage_perc{}": 0.25,
    "generation_tokens_total{}": 700,
    "prefix_cache_hits_total{}": 4,
    "prefix_cache_queries_total{}": 10,
    "request_success_total{finished_reason=length}": 1,
    "time_to_first_token_seconds_bucket{le=0.04}": 0,
    "time_to_first_token_seconds_bucket{le=0.06}": 1,
    "inter_token_latency_seconds_count{}": 2,
    "request_generation_tokens_sum{}": 3,
    "iteration_tokens_total_bucket{le=16}": 3,
    "iteration_tokens_total_sum{}": 30,
    "request_queue_time_seconds_sum{}": pytest.approx(0.01),
    "request_decode_time_seconds_sum{}": pytest.approx(0.03),
    "request_time_per_output_token_seconds_sum{}": pytest.approx(0.015),
    "request_params_max_tokens_sum{}": 50,
    "corrupted_requests_total{}": 1,
    "admission_rejections_total{}": 1,
    "engine_sleep_state{sleep_state=awake}": 0,
    "engine_sleep_state{sleep_state=discard_all}": 1,
    "cache_config_info{block_size=16,num_gpu_blocks=64}": 1,
}
"""Series under both prefixes."""


async def test_the_page_parses_and_holds_what_was_counted() -> None:
    metrics = Metrics(
        'a "name"\\', Stats(2, 3, 16, 64, 5, 600, 700, 10, 4, 3, 30, (0, 1, 2, *[0] * 11))
    )
    metrics.loaded = Loaded(4, 256, 64, 16, 320, (2,))
    choice = Choice(0, Letters(), TextRules())
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    generation = Generation([choice], 100.0, done, prompt_tokens=10, max_tokens=50)
    for now in (100.05, 100.06, 100.08):
        choice.feed(Output("1", [97], "length" if now > 100.07 else None, 4, queued_s=0.01))
        metrics.observe_step(generation, now)
    metrics.observe_end(generation, 100.1)
    metrics.count_refusal("full")
    metrics.count_error(NOT_FINITE)
    metrics.count_error("something else")
    metrics.sleep_level = 2
    found = samples(metrics)
    for prefix in ("stoker_runtime_", "vllm:"):
        assert {name: found[prefix + name] for name in EXPECTED} == EXPECTED
    assert found["stoker_runtime_startup_phase_seconds{phase=weights,path=fresh}"] == 1.5
    assert found["stoker_runtime_refusals_total{code=full}"] == 1
    assert found["stoker_runtime_slots{}"] == 4


def test_every_series_says_what_it_is() -> None:
    metrics = Metrics("m", loaded=Loaded(4, 256, 64, 16, 320, (2,)))
    metrics.count_refusal("full")
    page = metrics.render({"slots": 1.0, "new": 2.0}, {"weights": 1.0}).decode().splitlines()
    helps = {line.split()[2] for line in page if line.startswith("# HELP ")}
    types = {line.split()[2] for line in page if line.startswith("# TYPE ")}
    series = {line.partition("{")[0] for line in page if not line.startswith("#")}
    families = {re.sub("_(bucket|sum|count)$", "", name) for name in series}
    assert helps == types == families


def test_a_generation_that_got_no_token_has_no_token_times() -> None:
    metrics = Metrics("m")
    choice = Choice(0, Letters(), TextRules())
    metrics.observe_end(Generation([choice], 1.0, None), 2.0)  # type: ignore[arg-type]
    page = metrics.render({}, {}).decode()
    assert 'vllm:request_decode_time_seconds_count{model_name="m"} 0' in page
    assert 'vllm:request_success_total{model_name="m",finished_reason="abort"} 1' in page


def test_buckets_are_cumulative_and_end_with_all() -> None:
    metrics = Metrics('a "name"\\')
    for value in (0.0005, 0.3, 99999.0):
        metrics.histograms["time_to_first_token_seconds"].observe(value)
    buckets = [
        value
        for name, value in samples(metrics).items()
        if name.startswith("vllm:time_to_first_token_seconds_bucket")
    ]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-2], buckets[-1]) == (1, 2, 3)


def test_the_process_began_before_now_and_not_long_ago() -> None:
    assert time.time() - 3600 * 24 < process_start() <= time.time() + 0.05
