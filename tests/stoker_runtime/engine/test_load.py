"""Many requests at once on a real tiny model: shared beginnings, full queues, aborts, no leaks."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from stoker_runtime.engine.engine import Engine
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.wire import Generate, Output
from support.checkpoints import LlamaShape, write_checkpoint
from support.engines import GREEDY, make_engine, run_all, token_ids
from support.families import write_family

SYSTEM = [(7 * i) % 300 + 3 for i in range(70)]
RANDOM = SamplingParams(max_tokens=12, temperature=0.9, top_p=0.95, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


def make_talks(count: int, params: SamplingParams = GREEDY) -> list[Generate]:
    """Questions under one system prompt."""
    return [Generate(f"t{i}", [*SYSTEM, 5 + i, *range(9, 9 + 3 * i)], params) for i in range(count)]


def answers(engine: Engine, requests: list[Generate]) -> dict[str, list[int]]:
    return {id: token_ids(outputs) for id, outputs in run_all(engine, requests).items()}


@pytest.mark.parametrize(
    "settings",
    [{}, {"max_batched_tokens": 9, "max_num_seqs": 4}, {"kv_cache_tokens": 224, "block_size": 4}],
    ids=["roomy", "small-chunks", "preempted"],
)
@pytest.mark.parametrize("kv_cache_dtype", ["auto", "int8"])
def test_cached_beginnings_never_change_an_answer(
    folder: Path, settings: dict[str, int], kv_cache_dtype: str
) -> None:
    plain = make_engine(folder, prefix_caching=0, kv_cache_dtype=kv_cache_dtype)
    expected = answers(plain, make_talks(6))
    engine = make_engine(folder, kv_cache_dtype=kv_cache_dtype, **settings)
    assert answers(engine, make_talks(6)) == expected
    assert answers(engine, make_talks(6)[::-1]) == expected
    assert engine.stats.prefix_hits > 6 * 64
    assert (engine.stats.preemptions > 0) == ("kv_cache_tokens" in settings)


def test_remembers_no_more_than_it_is_told(folder: Path) -> None:
    engine = make_engine(folder, prefix_cache_tokens=40)
    first, second = make_talks(2)
    assert answers(engine, [first, second]) == answers(make_engine(folder), [first, second])
    assert engine._scheduler.pool.num_named_blocks == 3
    outputs = run_all(engine, [Generate("again", first.prompt_ids, GREEDY)])["again"]
    assert outputs[0].num_cached_tokens < 64


def test_a_window_frees_what_it_has_passed(tmp_path: Path) -> None:
    """200 tokens in a window of 20: two or three blocks of 16 instead of 13."""
    write_family(tmp_path, "mistral", sliding_window=20, max_position_embeddings=512)
    engine = make_engine(tmp_path, prefix_caching=0)
    params = SamplingParams(max_tokens=190, temperature=0.0, ignore_eos=True)
    engine.submit(Generate("a", list(range(3, 13)), params))
    used = []
    while engine.has_work:
        engine.step()
        used.append(engine.stats.kv_blocks_used)
    assert max(used) == 3


def test_tells_how_much_of_a_prompt_was_cached(folder: Path) -> None:
    engine = make_engine(folder)
    first, second = make_talks(2)
    assert run_all(engine, [first])["t0"][0].num_cached_tokens == 0
    outputs = run_all(engine, [second])["t1"]
    assert [output.num_cached_tokens for output in outputs[:2]] == [64, 0]
    stats = engine.stats
    assert (stats.prefix_queries, stats.prefix_hits) == (71 + 74, 64)


def test_another_salt_finds_nothing(folder: Path) -> None:
    engine = make_engine(folder)
    run_all(engine, [Generate("a", SYSTEM, GREEDY, cache_salt="one")])
    for salt, cached in (("two", 0), ("", 0), ("one", 64)):
        outputs = run_all(engine, [Generate("b", SYSTEM, GREEDY, cache_salt=salt)])["b"]
        assert outputs[0].num_cached_tokens == cached


def test_choices_of_one_prompt_compute_it_once(folder: Path) -> None:
    engine = make_engine(folder)
    params = [msgspec.structs.replace(RANDOM, seed=seed) for seed in range(8)]
    outputs = run_all(engine, [Generate(str(i), SYSTEM, one) for i, one in enumerate(params)])
    assert len({tuple(token_ids(made)) for made in outputs.values()}) == 8
    stats = engine.stats
    assert stats.step_tokens_sum == 70 + 7 * 6 + 8 * 11


def test_more_than_may_wait_are_refused_and_worth_a_retry(folder: Path) -> None:
    engine = make_engine(folder, max_num_seqs=2, max_waiting=3)
    outputs = run_all(engine, make_talks(8))
    refused = {id: made[0] for id, made in outputs.items() if made[0].error}
    assert sorted(refused) == ["t5", "t6", "t7"]
    assert {one.error_code for one in refused.values()} == {"overloaded"}
    assert "5 sequences are waiting" in refused["t5"].error
    assert engine.stats.finished == {"error": 3, "length": 5}
    assert answers(engine, make_talks(1)).keys() == {"t0"}


def test_a_better_priority_is_answered_first(folder: Path) -> None:
    engine = make_engine(folder, max_num_seqs=1)
    requests = [msgspec.structs.replace(one, priority=-i) for i, one in enumerate(make_talks(4))]
    for request in requests:
        engine.submit(request)
    ended = []
    while engine.has_work:
        ended += [output.id for output in engine.step() if output.finish_reason]
    assert ended == ["t3", "t2", "t1", "t0"]


def test_waiting_times_come_with_the_first_token(folder: Path) -> None:
    outputs = run_all(make_engine(folder, max_num_seqs=1), make_talks(2))
    for made in outputs.values():
        assert made[0].prefill_s > 0
        assert not any(output.prefill_s or output.queued_s for output in made[1:])
    assert outputs["t1"][0].queued_s > outputs["t0"][0].queued_s >= 0


def test_blocks_of_a_failed_sequence_spoil_nobody(folder: Path) -> None:
    """Somebody who gets a block with NaN in it must not read it behind its own end."""
    engine = make_engine(folder)
    expected = answers(engine, make_talks(1))
    engine.submit(Generate("bad", [9] * 40, GREEDY))
    engine.step()
    table = engine._scheduler.pool.table("bad")
    engine._runner.caches.data[:, :, list(table)] = float("nan")
    (output,) = engine.step()
    assert (output.finish_reason, output.error_code) == ("error", "internal")
    assert not engine._runner.caches.data.isnan().any()
    assert answers(engine, make_talks(1)) == expected


def make_storm(count: int) -> list[Generate]:
    """Requests of every kind, a third of them under one system prompt, some of them invalid."""
    rng = random.Random(7)
    storm = []
    for i in range(count):
        params = SamplingParams(
            max_tokens=rng.randint(1, 8),
            temperature=rng.choice([0.0, 1.0]),
            top_k=rng.choice([0, 5]),
            frequency_penalty=rng.choice([0.0, 0.0, 0.5]),
            logprobs=rng.choice([None, None, 2]),
            prompt_logprobs=rng.choice([None] * 9 + [1]),
            logit_bias={9999: 1.0} if i % 97 == 0 else {},
        )
        own = [rng.randrange(3, 320) for _ in range(rng.randint(1, 40))]
        prompt = SYSTEM[: rng.randint(1, 70)] + own if i % 3 == 0 else own
        storm.append(Generate(f"s{i}", prompt, params, priority=rng.randint(-3, 3)))
    return storm


def ride(engine: Engine, storm: list[Generate]) -> list[Output]:
    """Submit a few per step, abort some of them at any later moment; everything that came out."""
    rng, outputs, here = random.Random(3), list[Output](), set[str]()
    while storm or engine.has_work:
        for request in [storm.pop() for _ in range(min(len(storm), rng.randint(0, 20)))]:
            here.add(request.id)
            outputs += engine.submit(request)
        victims = [id for id in sorted(here) if rng.random() < 0.04]
        outputs += engine.abort(victims)
        made = engine.step()
        assert not {output.id for output in made} & set(victims), "an abort came too late"
        outputs += made
        here = {id for id in here if engine._scheduler.find(id)}
        engine._scheduler.check_integrity()
    return outputs


@pytest.mark.parametrize("overlap", ["off", "on"])
def test_two_thousand_requests_with_aborts_leave_no_trace(tmp_path: Path, overlap: str) -> None:
    shape = LlamaShape(num_hidden_layers=1)
    settings = {"kv_cache_tokens": 1024, "max_batched_tokens": 256, "overlap": overlap}
    engine = make_engine(write_checkpoint(tmp_path, shape), max_waiting=200, **settings)
    outputs = ride(engine, make_storm(2000))
    ends = [output.id for output in outputs if output.finish_reason]
    assert len(ends) == len(set(ends)) == 2000
    stats = engine.stats
    assert sum(stats.finished.values()) == 2000
    assert engine._flight is None
    assert min(stats.finished[reason] for reason in ("length", "abort", "error")) > 20
    assert (stats.running, stats.waiting, stats.waiting_tokens, stats.kv_blocks_used) == (0,) * 4
    assert engine._account.num_open == len(engine._pipeline.prompt_scores) == 0
    assert engine._pipeline.sampler.num_remembered == 0
