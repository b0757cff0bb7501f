"""config.json in its spellings, and what is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken, CheckpointNotFound
from stoker_runtime.model.families import FAMILIES
from stoker_runtime.model.rope import RopeSpec
from stoker_runtime.model.spec import LayerSpec, ModelSpec, read_spec
from support.checkpoints import LlamaShape, build_config


def read(folder: Path, changes: dict[str, Any], shape: LlamaShape | None = None) -> ModelSpec:
    """The spec of a good config with changes; None removes a field."""
    document = build_config(shape or LlamaShape()) | changes
    document = {name: value for name, value in document.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(document))
    return read_spec(folder)


def test_reads_the_numbers(tmp_path: Path) -> None:
    spec = read(tmp_path, {})
    assert spec == ModelSpec(
        architecture="LlamaForCausalLM",
        family=FAMILIES["LlamaForCausalLM"],
        vocab_size=320,
        hidden_size=64,
        intermediate_size=128,
        num_heads=4,
        num_kv_heads=2,
        head_dim=16,
        max_position=512,
        rms_norm_eps=1e-5,
        tied_embeddings=True,
        layers=(LayerSpec(), LayerSpec()),
        ropes=(RopeSpec(theta=10000.0, dim=16),),
        eos_token_ids=(2,),
        score_scale=0.25,
    )
    assert spec.num_layers == 2
    assert spec.windows == (0,)
    assert (spec.q_size, spec.kv_size) == (64, 32)
    assert spec.kv_bytes_per_token("bfloat16") == 2 * 2 * 32 * 2


def test_old_configs_leave_out_what_can_be_derived(tmp_path: Path) -> None:
    absent = dict.fromkeys(["head_dim", "num_key_value_heads", "attention_bias", "rope_theta"])
    spec = read(tmp_path, {**absent, "tie_word_embeddings": None})
    assert (spec.head_dim, spec.num_kv_heads, spec.tied_embeddings) == (16, 4, False)


@pytest.mark.parametrize(
    ("config", "generation", "ids"),
    [
        (2, None, (2,)),
        ([2, 5], None, (2, 5)),
        (2, {"eos_token_id": [7, 8]}, (7, 8)),
        (2, {}, (2,)),
        (None, None, ()),
    ],
)
def test_end_tokens_come_from_the_generation_config_first(
    tmp_path: Path, config: object, generation: dict[str, Any] | None, ids: tuple[int, ...]
) -> None:
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert read(tmp_path, {"eos_token_id": config}).eos_token_ids == ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": None}, "`hidden_size` must be a whole number ≥ 1, is missing"),
        ({"hidden_size": -4}, "`hidden_size` must be a whole number ≥ 1, was -4"),
        ({"hidden_size": "64"}, "`hidden_size` .* was '64'"),
        ({"vocab_size": True}, "`vocab_size` .* was True"),
        ({"num_hidden_layers": 2.5}, "`num_hidden_layers` .* was 2.5"),
        ({"intermediate_size": None}, "`intermediate_size` .* is missing"),
        ({"rms_norm_eps": 0}, "`rms_norm_eps` must be a number > 0, was 0"),
        ({"rope_theta": "x"}, "`rope_theta` must be a number > 0, was 'x'"),
        ({"attention_bias": 1}, "`attention_bias` must be true or false, was 1"),
        ({"num_key_value_heads": 3}, "multiple of `num_key_value_heads`, was 4 and 3"),
        ({"head_dim": 15}, "`head_dim` must be even, was 15"),
        ({"architectures": None}, "`architectures` is missing"),
        ({"architectures": []}, "`architectures` is missing"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_names_the_field_that_is_wrong(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointBroken, match=message):
        read(tmp_path, changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "'GPT2LMHeadModel' is not supported; .*Qwen3For"),
        ({"hidden_act": "gelu"}, "`hidden_act` 'gelu' is not supported"),
        ({"quantization_config": {"quant_method": "eetq"}}, "quant_method` 'eetq'"),
    ],
    ids=["architecture", "activation", "quantisation"],
)
def test_refuses_by_name_what_is_not_built(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArchitectureUnsupported, match=message):
        read(tmp_path, changes)


def test_says_which_file_is_absent(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="nowhere does not exist: check the volume"):
        read_spec(tmp_path / "nowhere")
    with pytest.raises(CheckpointNotFound, match=r"config\.json does not exist"):
        read_spec(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "must hold a JSON object")]
)
def test_says_what_a_file_does_not_hold(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointBroken, match=message):
        read_spec(tmp_path)


def test_an_unreadable_file_is_broken(tmp_path: Path) -> None:
    (tmp_path / "config.json").mkdir()
    with pytest.raises(CheckpointBroken, match="can't be read: Is a directory"):
        read_spec(tmp_path)


def test_biases_are_read(tmp_path: Path) -> None:
    spec = read(tmp_path, {}, replace(LlamaShape(), attention_bias=True, mlp_bias=True))
    assert spec.attention_bias
    assert spec.mlp_bias
