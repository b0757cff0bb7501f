"""config.json in its spellings, and what is refused by name."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken, CheckpointNotFound
from stoker_runtime.model.families import FAMILIES
from stoker_runtime.model.layout import plan_layout
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
        ({"num_hidden_layers": 10**9}, "`num_hidden_layers` must be ≤ 2048, was 1000000000"),
        ({"rope_theta": math.nan}, "`rope_theta` must be a number > 0, was nan"),
        ({"rope_theta": 0.5}, "`rope_scaling.rope_theta` must be a number > 1, was 0.5"),
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


def read_family(folder: Path, name: str, changes: dict[str, Any]) -> ModelSpec:
    """A family's config with nothing in it that has a default, and changes."""
    document = {
        "architectures": [f"{name}ForCausalLM"],
        "vocab_size": 320,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(document))
    return read_spec(folder)


WINDOW = {"sliding_window": 9}
SWITCHED = {"use_sliding_window": True, **WINDOW}
LOCAL_AND_GLOBAL = ["full_attention", "sliding_attention"] * 2


@pytest.mark.parametrize(
    ("name", "changes", "windows"),
    [
        ("Llama", WINDOW, [0, 0, 0, 0]),
        ("Mistral", {}, [4096] * 4),
        ("Mistral", {"sliding_window": None}, [0, 0, 0, 0]),
        ("Mistral", {"max_position_embeddings": 4096}, [0, 0, 0, 0]),
        ("Mistral", WINDOW, [9, 9, 9, 9]),
        ("Mixtral", {"num_local_experts": 2}, [0, 0, 0, 0]),
        ("Phi3", {"sliding_window": 2047}, [2047] * 4),
        ("Phi3", {}, [0, 0, 0, 0]),
        ("Qwen2", WINDOW, [0, 0, 0, 0]),
        ("Qwen2", SWITCHED, [0, 0, 0, 0]),
        ("Qwen2", SWITCHED | {"max_window_layers": 3}, [0, 0, 0, 9]),
        ("Qwen3", SWITCHED | {"layer_types": LOCAL_AND_GLOBAL}, [0, 9, 0, 9]),
        ("Qwen3", WINDOW | {"layer_types": LOCAL_AND_GLOBAL}, [0, 0, 0, 0]),
        ("Qwen2Moe", SWITCHED | {"max_window_layers": 2, "num_experts": 8}, [9, 0, 0, 0]),
        ("Qwen3Moe", SWITCHED | {"num_experts": 8}, [9, 9, 9, 9]),
        ("Gemma2", {}, [4096, 0, 4096, 0]),
        ("Gemma2", WINDOW | {"layer_types": LOCAL_AND_GLOBAL}, [0, 9, 0, 9]),
        ("Gemma3", WINDOW | {"sliding_window_pattern": 2}, [9, 0, 9, 0]),
        ("Gemma3", WINDOW, [9, 9, 9, 9]),
        ("SmolLM3", SWITCHED, [0, 0, 0, 9]),
    ],
)
def test_windows_are_where_the_family_has_them(
    tmp_path: Path, name: str, changes: dict[str, Any], windows: list[int]
) -> None:
    spec = read_family(tmp_path, name, changes)
    assert [layer.window for layer in spec.layers] == windows
    assert spec.windows == tuple(sorted(set(windows)))


@pytest.mark.parametrize(
    ("name", "changes", "ropes"),
    [
        ("Qwen3", {}, [0, 0, 0, 0]),
        ("Gemma3", {"sliding_window_pattern": 2}, [1, 0, 1, 0]),
        ("SmolLM3", {}, [0, 0, 0, None]),
        ("SmolLM3", {"no_rope_layers": [0, 1, 1, 0]}, [None, 0, 0, None]),
    ],
)
def test_ropes_are_where_the_family_has_them(
    tmp_path: Path, name: str, changes: dict[str, Any], ropes: list[int | None]
) -> None:
    spec = read_family(tmp_path, name, changes)
    assert [layer.rope for layer in spec.layers] == ropes


@pytest.mark.parametrize(
    ("name", "changes", "biases"),
    [
        ("Llama", {"attention_bias": True}, (True, True, False)),
        ("Llama", {"mlp_bias": True}, (False, False, True)),
        ("Mistral", {"attention_bias": True, "mlp_bias": True}, (False, False, False)),
        ("Qwen2", {"attention_bias": False}, (True, False, False)),
        ("Qwen2Moe", {"num_experts": 8}, (True, False, False)),
        ("Qwen2Moe", {"num_experts": 8, "qkv_bias": False}, (False, False, False)),
        ("Qwen3", {}, (False, False, False)),
        ("Phi3", {"attention_bias": True}, (False, False, False)),
    ],
)
def test_biases_are_where_the_family_has_them(
    tmp_path: Path, name: str, changes: dict[str, Any], biases: tuple[bool, bool, bool]
) -> None:
    spec = read_family(tmp_path, name, changes)
    assert (spec.attention_bias, spec.output_bias, spec.mlp_bias) == biases


def test_gemma_scales_and_caps_its_scores(tmp_path: Path) -> None:
    spec = read_family(tmp_path, "Gemma2", {})
    assert (spec.score_scale, spec.score_softcap, spec.logit_softcap) == (1 / 16, 50.0, 30.0)
    assert spec.tied_embeddings
    spec = read_family(tmp_path, "Gemma3", {"query_pre_attn_scalar": 100})
    assert (spec.score_scale, spec.score_softcap, spec.logit_softcap) == (0.1, None, None)
    spec = read_family(
        tmp_path, "Llama", {"query_pre_attn_scalar": 9, "final_logit_softcapping": 3}
    )
    assert (spec.score_scale, spec.score_softcap, spec.logit_softcap) == (0.25, None, None)


def test_experts_are_where_the_config_has_them(tmp_path: Path) -> None:
    spec = read_family(tmp_path, "Qwen3Moe", {"num_experts": 8, "mlp_only_layers": [1]})
    assert [layer.is_sparse for layer in spec.layers] == [True, False, True, True]
    assert not any(layer.is_sparse for layer in read_family(tmp_path, "Qwen3", {}).layers)


def test_longrope_offers_the_length_its_short_factors_are_for(tmp_path: Path) -> None:
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    changes = {
        "rope_scaling": {"type": "longrope", **factors},
        "max_position_embeddings": 131072,
        "original_max_position_embeddings": 4096,
    }
    spec = read_family(tmp_path, "Phi3", changes)
    assert (spec.max_position, spec.ropes[0].factors) == (4096, (1.0,) * 8)
    assert spec.stretch_to(0) == spec.stretch_to(4096) == spec
    longer = spec.stretch_to(4097)
    assert (longer.max_position, longer.ropes[0].factors) == (131072, (2.0,) * 8)
    assert read_family(tmp_path, "Llama", {}).stretch_to(9999).max_position == 2048


UNBUILT = (
    "GPT2LMHeadModel", "GemmaForCausalLM", "Gemma3ForConditionalGeneration", "Llama4ForCausalLM",
    "Qwen2VLForConditionalGeneration", "Qwen3NextForCausalLM", "DeepseekV3ForCausalLM",
    "MambaForCausalLM", "Phi3VForCausalLM", "PhimoeForCausalLM", "Cohere2ForCausalLM",
    "LlamaForSequenceClassification", "MistralModel", "GptOssForCausalLM",
)  # fmt: skip


@pytest.mark.parametrize("architecture", UNBUILT)
def test_refuses_other_architectures_by_name(tmp_path: Path, architecture: str) -> None:
    with pytest.raises(ArchitectureUnsupported, match=f"architecture '{architecture}' is not"):
        read(tmp_path, {"architectures": [architecture]})


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("Qwen2", {"hidden_act": "gelu"}, "`hidden_act` 'gelu' is not supported; .*'silu'"),
        ("Gemma2", {"hidden_activation": "gelu"}, "`hidden_activation` 'gelu' is not supported"),
        ("Gemma3", {"hidden_activation": None}, "`hidden_activation` None is not supported"),
        ("Gemma3", {"use_bidirectional_attention": True}, "`use_bidirectional_attention` True"),
        ("Llama", {"is_encoder_decoder": True}, "`is_encoder_decoder` True is not supported"),
        ("Qwen3", {"layer_types": ["linear_attention"] * 4}, "`layer_types` 'linear_attention'"),
        ("Llama", {"layer_types": ["chunked_attention"] * 4}, "`layer_types` 'chunked_attention'"),
        ("Qwen2", {"rope_scaling": {"type": "mrope"}}, "`rope_scaling.type` 'mrope'"),
        ("Mistral", {"quantization_config": {"quant_method": "fp8"}}, "quant_method` 'fp8'"),
    ],
)
def test_refuses_features_of_known_families_by_name(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArchitectureUnsupported, match=message):
        read_family(tmp_path, name, changes)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("Gemma2", {"layer_types": ["full_attention"]}, "`layer_types` must be a list of 4 names"),
        ("Gemma2", {"layer_types": "all"}, "`layer_types` must be a list of 4 names, was 'all'"),
        ("Mistral", {"sliding_window": -1}, "`sliding_window` must be a whole number ≥ 1, was -1"),
        ("Gemma2", {"attn_logit_softcapping": 0}, "`attn_logit_softcapping` .* > 0, was 0"),
        ("Gemma3", {"query_pre_attn_scalar": "x"}, "`query_pre_attn_scalar` .* was 'x'"),
        ("SmolLM3", {"no_rope_layers": [1]}, r"`no_rope_layers` must be a list .*, was \[1\]"),
        ("Mixtral", {}, "`num_local_experts` must be a whole number ≥ 1, is missing"),
        ("Qwen3Moe", {"num_experts": 4}, "`num_experts_per_tok` must be ≤ .*, was 8 > 4"),
        ("Qwen2", {"use_sliding_window": "no"}, "`use_sliding_window` must be true or false"),
        ("Qwen3", {"quantization_config": "gptq"}, "`quantization_config` must be an object"),
    ],
)
def test_names_the_field_of_a_family_that_is_wrong(
    tmp_path: Path, name: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CheckpointBroken, match=message):
        read_family(tmp_path, name, changes)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["sliding_attention", "yarn", "longrope", "gptq", 10**400, 2**40]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["rope_type", "type", "factor", "rope_theta"]), inner),
    max_leaves=6,
)  # fmt: skip
FIELDS = sorted(
    {name for family in FAMILIES.values() for name in family.defaults}
    | set(build_config(LlamaShape()))
    | {"rope_parameters", "layer_types", "no_rope_layers", "use_sliding_window", "experts"}
    | {"mlp_only_layers", "decoder_sparse_step", "num_experts", "partial_rotary_factor"}
    | {"sliding_window_pattern", "no_rope_layer_interval", "quantization_config"}
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(list(FAMILIES)), changes=st.dictionaries(st.sampled_from(FIELDS), JSON))
@example(name="LlamaForCausalLM", changes={"architectures": [[]]})
def test_nonsense_is_refused_and_nothing_else_happens(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    document = {"num_experts": 8, **changes}
    with contextlib.suppress(ArchitectureUnsupported, CheckpointBroken):
        spec = read_family(tmp_path, name.removesuffix("ForCausalLM"), document)
        assert plan_layout(spec)


def test_nesting_without_end_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointBroken, match="is not JSON"):
        read_spec(tmp_path)
