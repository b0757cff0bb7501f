"""The engine on a real tiny model: ends, aborts, refusals, failures, counters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.runner import Inputs, Runner, spans
from stoker_runtime.errors import EngineCrashed
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import Generate
from support.checkpoints import write_checkpoint
from support.engines import GREEDY, make_engine, run_all, token_ids

RANDOM = SamplingParams(max_tokens=16, temperature=0.9, top_p=0.95, seed=11, ignore_eos=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("model"))


@pytest.fixture(params=["off", "on"], ids=["in turn", "overlapped"])
def engine(folder: Path, request: pytest.FixtureRequest) -> Engine:
    return make_engine(folder, overlap=request.param)


def make_request(id: str, length: int = 8, params: SamplingParams = GREEDY) -> Generate:
    return Generate(id, [(7 * i + length) % 300 + 3 for i in range(length)], params)


def answer(engine: Engine, request: Generate) -> list[int]:
    return token_ids(run_all(engine, [request])[request.id])


def with_params(params: SamplingParams, **changes: object) -> SamplingParams:
    return msgspec.structs.replace(params, **changes)


def test_streams_one_token_per_step_and_says_why_it_ended(engine: Engine) -> None:
    outputs = run_all(engine, [make_request("a")])["a"]
    assert [len(output.token_ids) for output in outputs] == [1] * 24
    assert [output.finish_reason for output in outputs] == [None] * 23 + ["length"]


def test_stops_at_a_stop_token(engine: Engine) -> None:
    tokens = answer(engine, make_request("a"))
    stop = tokens[3]
    params = with_params(GREEDY, stop_token_ids=(stop,))
    outputs = run_all(engine, [make_request("b", params=params)])["b"]
    assert token_ids(outputs) == tokens[: tokens.index(stop) + 1]
    assert outputs[-1].finish_reason == "stop"


def test_the_models_own_end_tokens_come_from_the_checkpoint(folder: Path) -> None:
    biased = with_params(GREEDY, logit_bias={0: 100.0}, ignore_eos=False)
    outputs = run_all(make_engine(folder), [make_request("a", params=biased)])["a"]
    assert (token_ids(outputs), outputs[-1].finish_reason) == ([0], "stop")


def test_ends_at_the_longest_length(folder: Path) -> None:
    engine = make_engine(folder, max_model_len=20)
    outputs = run_all(engine, [make_request("a", 15)])["a"]
    assert len(token_ids(outputs)) == 5
    assert outputs[-1].finish_reason == "length"


def test_a_seed_gives_the_same_answer_whatever_else_runs(folder: Path) -> None:
    alone = answer(make_engine(folder), make_request("a", params=RANDOM))
    others = [
        make_request(f"x{i}", 5 + 20 * i, with_params(RANDOM, seed=None, temperature=1.0 + i))
        for i in range(5)
    ]
    engine = make_engine(folder, max_batched_tokens=16, max_num_seqs=4)
    batch = run_all(engine, [*others[:3], make_request("a", params=RANDOM), *others[3:]])
    assert token_ids(batch["a"]) == alone


def test_requests_without_seed_differ(engine: Engine) -> None:
    params = with_params(RANDOM, seed=None)
    outputs = run_all(engine, [make_request(id, params=params) for id in "abc"])
    assert len({tuple(token_ids(made)) for made in outputs.values()}) == 3


def test_requests_without_seed_repeat_after_a_restart(folder: Path) -> None:
    params = with_params(RANDOM, seed=None)
    first, second, third = (
        answer(make_engine(folder, seed=seed), make_request("a", params=params))
        for seed in (5, 5, 6)
    )
    assert first == second != third


def test_reports_logprobs_of_every_token(engine: Engine) -> None:
    outputs = run_all(engine, [make_request("a", params=with_params(GREEDY, logprobs=2))])["a"]
    for output in outputs:
        assert output.logprobs[0].token_id == output.token_ids[0]
        assert output.logprobs[0] == output.top_logprobs[0][0]
        assert len(output.top_logprobs[0]) == 2


def test_abort_takes_effect_before_the_next_step(engine: Engine) -> None:
    for id in ("a", "b"):
        engine.submit(make_request(id))
    engine.step()
    assert [(o.id, o.finish_reason) for o in engine.abort(["a", "nobody"])] == [("a", "abort")]
    assert {output.id for output in engine.step()} == {"b"}
    assert engine.stats.running == 1


def test_an_aborted_batch_frees_everything(engine: Engine) -> None:
    for i in range(40):
        engine.submit(make_request(str(i)))
    engine.step()
    engine.abort([str(i) for i in range(40)])
    assert engine.stats.kv_blocks_used == 0
    assert engine.step() == []
    assert not engine.has_work


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Generate("a", [], GREEDY), "at least one token"),
        (make_request("a", 512), "shorter than 512 tokens, was 512"),
        (Generate("a", [5, 320], GREEDY), "token 320 is not in the vocabulary of 320"),
        (Generate("a", [-1], GREEDY), "token -1 is not"),
        (Generate("a", [5], with_params(GREEDY, logit_bias={999: 1.0})), "logit_bias: token 999"),
    ],
    ids=["empty", "too-long", "beyond-vocabulary", "negative", "bias"],
)
def test_refuses_what_can_not_run(engine: Engine, request_: Generate, message: str) -> None:
    (output,) = engine.submit(request_)
    assert output.finish_reason == "error"
    assert message in output.error
    assert not engine.has_work


def test_refuses_an_id_that_runs(engine: Engine) -> None:
    engine.submit(make_request("a"))
    (output,) = engine.submit(make_request("a"))
    assert "running already" in output.error


class FaultyRunner(Runner):
    """A runner whose forward pass fails, or goes wrong, for one sequence."""

    victim = fault = ""

    def lay_out(self, chunks: Sequence[Chunk]) -> Inputs:
        inputs = super().lay_out(chunks)
        rows = {
            chunk.seq_id: first
            for chunk, (first, _) in zip(chunks, spans(chunks), strict=True)
            if chunk.start > 0
        }
        if self.victim not in rows:
            return inputs

        def forward() -> torch.Tensor:
            if self.fault == "raise":
                raise RuntimeError("bad luck")
            hidden = inputs.forward().clone()
            hidden[rows[self.victim]] = float("nan")
            return hidden

        if self.fault == "raise early":
            raise RuntimeError("bad luck")
        return replace(inputs, forward=forward)


def spoil(engine: Engine, victim: str, fault: str) -> None:
    """Make the engine's runner fail for one sequence."""
    engine.runner.__class__ = FaultyRunner
    engine.runner.victim, engine.runner.fault = victim, fault  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fault", "message"),
    [("raise", "bad luck"), ("raise early", "bad luck"), ("nan", "not finite")],
)
def test_a_failure_ends_one_request_alone(
    folder: Path, engine: Engine, fault: str, message: str
) -> None:
    ids = ["a", "b", "c"]
    expected = run_all(make_engine(folder), [make_request(id, 8 + i) for i, id in enumerate(ids)])
    spoil(engine, "b", fault)
    outputs = run_all(engine, [make_request(id, 8 + i) for i, id in enumerate(ids)])
    assert outputs["b"][-1].finish_reason == "error"
    assert message in outputs["b"][-1].error
    assert token_ids(outputs["b"]) == token_ids(expected["b"])[:1]
    for id in ("a", "c"):
        assert token_ids(outputs[id]) == token_ids(expected[id])
    assert engine.stats.kv_blocks_used == 0


def test_warm_up_makes_a_token_and_leaves_no_trace(engine: Engine) -> None:
    before = engine.stats
    engine.warm_up()
    assert engine.stats == before
    assert not engine.has_work


def test_warm_up_of_a_broken_model_says_so(folder: Path) -> None:
    engine = make_engine(folder)
    engine._runner.model.first_norm.weight.fill_(float("nan"))
    with pytest.raises(EngineCrashed, match="not finite"):
        engine.warm_up()


def test_counts_tokens_and_gauges(engine: Engine) -> None:
    run_all(engine, [make_request("a", 9), make_request("b", 30)])
    stats = engine.stats
    assert (stats.prompt_tokens, stats.generated_tokens) == (39, 48)
    engine.submit(make_request("c", 17))
    assert engine.stats.waiting == 1
    engine.step()
    stats = engine.stats
    assert (stats.running, stats.waiting, stats.kv_blocks_used) == (1, 0, 2)
    assert stats.kv_blocks_total == 256
