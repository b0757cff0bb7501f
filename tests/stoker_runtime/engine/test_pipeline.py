"""A step that is prepared while another is computed answers as one that waits for it."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker_runtime.engine import assembly
from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.pipeline import Flight
from stoker_runtime.engine.runner import Inputs
from stoker_runtime.kernels.gpu import ops as gpu_ops
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.wire import Generate, Output
from support.checkpoints import LlamaShape, write_checkpoint
from support.engines import GREEDY, make_engine, run_all, token_ids
from support.families import write_family

SHARED = [(7 * i) % 300 + 3 for i in range(40)]
TIGHT = {"kv_cache_tokens": 224, "block_size": 4, "max_batched_tokens": 20, "max_num_seqs": 5}
KINDS = st.fixed_dictionaries(
    {"max_tokens": st.integers(1, 12), "temperature": st.sampled_from([0.0, 1.0])},
    optional={
        "top_p": st.just(0.9),
        "seed": st.integers(0, 9),
        "frequency_penalty": st.sampled_from([-1.5, 0.7]),
        "repetition_penalty": st.just(1.3),
        "logit_bias": st.just({2: 9.0, 30: 5.0}),
        "min_tokens": st.integers(1, 5),
        "stop_token_ids": st.just(tuple(range(100, 160))),
        "logprobs": st.integers(0, 3),
        "prompt_logprobs": st.just(1),
    },
)
"""Everything that the sampler is asked, ends of all kinds among it."""
MIXES = st.lists(
    st.tuples(st.integers(1, 30), st.booleans(), st.integers(0, 6), KINDS), min_size=1, max_size=7
)
"""Tokens of the prompt, whether it begins like others, the step at which it comes, wishes."""
Mix = list[tuple[int, bool, int, dict[str, object]]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = LlamaShape(num_hidden_layers=1)
    return write_checkpoint(tmp_path_factory.mktemp("model"), shape)


def make_requests(mix: Mix) -> list[tuple[int, Generate]]:
    made = []
    for index, (length, is_shared, at, fields) in enumerate(mix):
        own = [(11 * i + index) % 300 + 3 for i in range(length)]
        prompt = SHARED + own if is_shared else own
        made.append((at, Generate(f"r{index}", prompt, SamplingParams(**fields))))  # type: ignore[arg-type]
    return made


def ride(engine: Engine, mix: Mix) -> dict[str, list[Output]]:
    outputs: dict[str, list[Output]] = {}
    waiting, now = make_requests(mix), 0
    while waiting or engine.has_work:
        for _, request in [one for one in waiting if one[0] <= now]:
            assert engine.submit(request) == []
        waiting, now = [one for one in waiting if one[0] > now], now + 1
        for output in engine.step():
            outputs.setdefault(output.id, []).append(output)
        engine._scheduler.check_integrity()
    assert engine.stats.kv_blocks_used == 0
    return outputs


def describe(outputs: list[Output]) -> list[tuple[object, ...]]:
    """What a client sees but for the times; how much was cached depends on the schedule."""
    return [
        (
            one.token_ids,
            one.finish_reason,
            [(each.token_id, pytest.approx(each.logprob, abs=1e-4)) for each in one.logprobs],
            [len(each) for each in one.top_logprobs],
            [[pair.token_id for pair in each] for each in one.prompt_logprobs],
        )
        for one in outputs
    ]


@pytest.mark.parametrize("limits", [{}, TIGHT], ids=["roomy", "tight"])
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(mix=MIXES)
def test_same_answers_overlapped_or_in_turn(folder: Path, limits: dict[str, int], mix: Mix) -> None:
    in_turn = ride(make_engine(folder, **limits), mix)
    overlapped = ride(make_engine(folder, overlap="on", **limits), mix)
    assert overlapped.keys() == in_turn.keys()
    for id, outputs in in_turn.items():
        assert describe(overlapped[id]) == describe(outputs)


def test_a_step_is_launched_before_the_one_before_it_has_ended(folder: Path) -> None:
    engine = make_engine(folder, overlap="on")
    runner, gate = engine.runner, threading.Event()
    lay_out, is_open = runner.lay_out, []

    def lay_out_gated(chunks: object) -> Inputs:
        inputs = lay_out(chunks)  # type: ignore[arg-type]
        is_open.append(gate.is_set())
        if len(is_open) == 2:
            gate.set()

        def forward() -> object:
            assert gate.wait(30), "the second step waits for the first"
            return inputs.forward()

        return replace(inputs, forward=forward)  # type: ignore[arg-type]

    runner.lay_out = lay_out_gated  # type: ignore[method-assign]
    outputs = run_all(engine, [Generate("a", [5, 6], GREEDY)])["a"]
    assert is_open[:2] == [False, False]
    assert token_ids(outputs) == token_ids(
        run_all(make_engine(folder), [Generate("a", [5, 6], GREEDY)])["a"]
    )


def test_without_overlap_nothing_is_under_way_between_steps(folder: Path) -> None:
    engine = make_engine(folder)
    engine.submit(Generate("a", [5, 6], GREEDY))
    assert len(engine.step()) == 1
    assert engine._flight is None


def test_an_id_that_is_taken_again_gets_nothing_of_its_predecessor(folder: Path) -> None:
    engine = make_engine(folder, overlap="on")
    first, second = Generate("a", [5] * 20, GREEDY), Generate("a", [9, 8, 7], GREEDY)
    expected = token_ids(run_all(make_engine(folder), [second])["a"])
    engine.submit(first)
    engine.step()
    assert isinstance(engine._flight, Flight)
    engine.abort(["a"])
    assert token_ids(run_all(engine, [second])["a"]) == expected


def test_the_last_token_does_not_wait_for_what_is_computed_for_nobody(folder: Path) -> None:
    """All end by a stop token, which is not certain when the next step is launched."""
    engine = make_engine(folder, overlap="on")
    ends = SamplingParams(max_tokens=9, temperature=0.0, stop_token_ids=tuple(range(320)))
    engine.submit(Generate("a", [5] * 20, ends))
    (output,) = engine.step()
    assert output.finish_reason == "stop"
    assert engine._flight is not None
    assert engine.step() == []
    assert not engine.has_work


def test_a_step_for_nobody_ends_at_once(folder: Path) -> None:
    engine = make_engine(folder, overlap="on")
    engine.submit(Generate("a", [5] * 20, GREEDY))
    engine.step()
    engine.abort(["a"])
    assert engine.has_work
    assert engine.step() == []
    assert not engine.has_work


def test_steps_are_counted_alike(folder: Path) -> None:
    requests = [Generate(str(i), [5 + i] * 9, GREEDY) for i in range(3)]
    engines = [make_engine(folder, overlap=overlap) for overlap in ("off", "on")]
    for engine in engines:
        run_all(engine, requests)
    one, two = (engine.stats for engine in engines)
    assert (one.steps, one.step_tokens, one.finished) == (two.steps, two.step_tokens, two.finished)


def test_kernels_take_tokens_of_the_step_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_family(tmp_path, "qwen3", hidden_size=64, intermediate_size=80, num_hidden_layers=1)
    params = SamplingParams(max_tokens=4, temperature=0.8, seed=4, presence_penalty=0.5)
    requests = [Generate(str(n), [n + 5] * (3 * n + 1), params) for n in range(2)]
    monkeypatch.setattr(assembly, "pick_ops", lambda _, **__: gpu_ops)
    made = [
        run_all(make_engine(tmp_path, overlap=one, block_size=4), requests) for one in ("off", "on")
    ]
    for id, outputs in made[0].items():
        assert token_ids(made[1][id]) == token_ids(outputs)
