"""`stoker fit`: the sums on the terminal, and an exit status for scripts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stoker_api.v1alpha1 import LLMDeployment
from stoker_cli.__main__ import app
from stoker_operator.decide.problem import derive_problem
from support.operator_world import make_deployment

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


def test_a_model_that_fits(checkpoint: Path) -> None:
    result = CliRunner().invoke(app, ["fit", str(checkpoint), "--memory", "80"])
    assert result.exit_code == 0, result.output
    assert "tokens of cache" in result.output


def test_one_that_does_not_shows_what_would(checkpoint: Path) -> None:
    options = ["--memory", "16", "--max-model-len", "8192"]
    result = CliRunner().invoke(app, ["fit", str(checkpoint / "config.json"), *options])
    assert result.exit_code == 1
    assert "too much" in result.output
    assert "would fit with resources.gpus: 2" in result.output
    assert "would fit with GPUs of 20 GiB" in result.output


def test_more_gpus_share_the_weights_and_the_table_shows_their_number(checkpoint: Path) -> None:
    options = ["--memory", "16", "--gpus", "2", "--kv-cache", "FP8"]
    result = CliRunner().invoke(app, ["fit", str(checkpoint), *options], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "2 × 16 GiB, sequences of 8192 tokens" in result.output
    [row] = [line.split() for line in result.output.splitlines() if line.strip().startswith("None")]
    assert row[1] == "←"
    at_once = [int(cell) for cell in row[-4:]]
    assert at_once[0] == 0
    assert at_once == sorted(at_once)


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("{", []),
        ("[]", []),
        ("{}", []),
        (json.dumps(CONFIG), ["--quantization", "Int3"]),
        (json.dumps(CONFIG), ["--kv-cache", "Int3"]),
        (json.dumps(CONFIG), ["--gpus", "3"]),
        (json.dumps(CONFIG), ["--memory", "-3"]),
        (json.dumps(CONFIG), ["--memory", "nan"]),
        (json.dumps(CONFIG | {"hidden_size": "wide"}), []),
        (json.dumps(CONFIG | {"num_hidden_layers": None}), []),
        (json.dumps(CONFIG | {"num_attention_heads": 0}), []),
        (json.dumps({"text_config": 3}), []),
        (json.dumps(CONFIG | {"architectures": ["DeepseekV3ForCausalLM"]}), []),
        (json.dumps(CONFIG | {"quantization_config": {"quant_method": "fp8"}}), []),
        (json.dumps(CONFIG | {"quantization_config": AWQ}), ["--quantization", "Int8"]),
        (json.dumps(CONFIG), ["--max-model-len", "9000"]),
        (json.dumps(CONFIG), ["--gpu", "K80"]),
        (json.dumps(CONFIG), ["--gpu", "L4", "--memory", "24"]),
        (json.dumps(CONFIG), ["--output", "yaml"]),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, content: str, options: list[str]) -> None:
    (tmp_path / "config.json").write_text(content)
    assert CliRunner().invoke(app, ["fit", str(tmp_path), *options]).exit_code == 2


def test_gpus_are_known_by_name_and_options_by_the_runtimes_words(checkpoint: Path) -> None:
    options = ["--gpu", "l4", "--tensor-parallel", "2", "--kv-cache-dtype", "fp8"]
    result = CliRunner().invoke(app, ["fit", str(checkpoint), *options], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "2 × 22.49 GiB, sequences of 8192 tokens" in result.output


def test_a_checkpoint_that_is_quantised_has_one_row(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": AWQ}))
    result = CliRunner().invoke(app, ["fit", str(tmp_path)], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "Int4 ←" in result.output
    assert "None" not in result.output


def test_programs_get_the_same_as_json(checkpoint: Path) -> None:
    command = ["fit", str(checkpoint), "--memory", "16", "-o", "json"]
    result = CliRunner().invoke(app, command)
    told = json.loads(result.output)
    assert result.exit_code == 1
    assert told["fits"] is False
    assert told["remedies"][-1] == "GPUs of 20 GiB"
    assert told["sums"]["weights_bytes"] == 2 * 8_030_261_248


def test_several_gpus_are_offered_and_the_operator_takes_them(checkpoint: Path) -> None:
    result = CliRunner().invoke(app, ["fit", str(checkpoint), "--memory", "16"])
    assert "would fit with resources.gpus: 2" in result.output
    asked = LLMDeployment.model_validate(make_deployment(resources={"gpus": 2}))
    assert derive_problem(asked, {"models"}) is None
