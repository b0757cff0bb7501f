"""Bytes of weights and KV cache, against checkpoints whose sizes are published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.fit import (
    GIB,
    Question,
    can_split,
    check_fit,
    declared_quantization,
    derive_shape,
    kv_bytes_per_token,
    suggest_fits,
    weights_bytes,
)

LLAMA_8B: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
}
QWEN2_HALF_B: dict[str, Any] = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "intermediate_size": 4864,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}
MIXTRAL: dict[str, Any] = {
    "model_type": "mixtral",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
    "num_local_experts": 8,
}


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(LLAMA_8B, 8_030_261_248), (QWEN2_HALF_B, 494_032_768), (MIXTRAL, 46_702_792_704)],
    ids=["Llama-3-8B", "Qwen2.5-0.5B", "Mixtral-8x7B"],
)
def test_every_parameter_is_counted(config: dict[str, Any], parameters: int) -> None:
    shape = derive_shape(config)
    assert shape.linear_parameters + shape.whole_parameters == parameters
    assert weights_bytes(shape, "None") == 2 * parameters


def test_eight_thousand_tokens_of_llama_take_a_gibibyte() -> None:
    assert 8192 * kv_bytes_per_token(derive_shape(LLAMA_8B)) == GIB


def test_quantised_weights_carry_their_scales() -> None:
    shape = derive_shape(LLAMA_8B)
    whole = 2 * shape.whole_parameters
    four, eight = weights_bytes(shape, "Int4") - whole, weights_bytes(shape, "Int8") - whole
    assert four == pytest.approx(shape.linear_parameters * (0.5 + 2.5 / 128), abs=1)
    assert shape.linear_parameters < eight < 1.001 * shape.linear_parameters


def test_tensor_parallelism_splits_all_but_norms_and_never_a_kv_head() -> None:
    shape = derive_shape(LLAMA_8B)
    one, two = weights_bytes(shape, "None"), weights_bytes(shape, "None", gpus=2)
    assert one / 2 < two < one / 2 * 1.001
    assert kv_bytes_per_token(shape, gpus=8) * 8 == kv_bytes_per_token(shape)
    assert kv_bytes_per_token(shape, gpus=16) == kv_bytes_per_token(shape, gpus=8)
    assert kv_bytes_per_token(shape, "Int8") < 0.52 * kv_bytes_per_token(shape)
    assert kv_bytes_per_token(derive_shape(LLAMA_8B), "FP8") == 2 * 32 * 8 * (128 + 4)


def test_the_message_shows_the_sum_and_the_remedies() -> None:
    shape = derive_shape(LLAMA_8B)
    fit = check_fit(shape, Question(16 * GIB))
    assert not fit.fits
    assert "weights 14.96 GiB" in fit.message
    assert "8192 tokens × 131072 B = 1.00 GiB" in fit.message
    assert "of 14.40 GiB usable per GPU" in fit.message
    assert "too much" in fit.message
    assert suggest_fits(shape, Question(16 * GIB)) == (
        "model.quantization: FP8",
        "resources.gpus: 2",
        "GPUs of 18 GiB",
    )


def test_a_smaller_cache_or_a_shorter_length_is_offered_where_only_the_cache_is_too_large() -> None:
    shape, question = derive_shape(LLAMA_8B), Question(24 * GIB, max_model_len=65536)
    remedies = suggest_fits(shape, question)
    tokens = check_fit(shape, question).tokens
    assert f"engine.maxModelLen: {tokens}" in remedies
    assert check_fit(shape, replace(question, max_model_len=tokens)).fits
    small = suggest_fits(shape, replace(question, max_model_len=tokens * 3 // 2))
    assert small[0] == "engine.kvCacheDtype: FP8"
    chosen = replace(question, max_model_len=tokens * 3 // 2, kv_dtype="FP8")
    assert not any("kvCacheDtype" in remedy for remedy in suggest_fits(shape, chosen))


def test_a_cache_that_is_small_already_is_not_offered_again() -> None:
    question = Question(24 * GIB, max_model_len=131072, kv_dtype="FP8")
    remedies = suggest_fits(derive_shape(LLAMA_8B), question)
    assert not any(remedy.startswith("engine.kvCacheDtype") for remedy in remedies)
    assert f"engine.maxModelLen: {check_fit(derive_shape(LLAMA_8B), question).tokens}" in remedies


def test_what_is_offered_keeps_the_gpus_that_are_there() -> None:
    shape = derive_shape(LLAMA_8B)
    question = Question(8 * GIB, gpus=2)
    assert not check_fit(shape, question).fits
    assert suggest_fits(shape, question)[:2] == ("model.quantization: FP8", "resources.gpus: 4")


@given(st.integers(1, 60), st.sampled_from([1, 2, 4]), st.sampled_from(["None", "FP8", "Int4"]))
def test_a_gpu_of_the_named_size_is_large_enough_and_one_gibibyte_less_is_not(
    memory_gib: int, gpus: int, quantization: str
) -> None:
    shape, question = derive_shape(LLAMA_8B), Question(memory_gib * GIB, quantization, gpus)
    *_, words = suggest_fits(shape, question)
    needed = int(words.removeprefix("GPUs of ").removesuffix(" GiB"))
    assert check_fit(shape, replace(question, memory_bytes=needed * GIB)).fits
    assert not check_fit(shape, replace(question, memory_bytes=(needed - 1) * GIB)).fits


@pytest.mark.parametrize(
    ("config", "gpus", "splits"),
    [(LLAMA_8B, 8, True), (LLAMA_8B, 16, True), (LLAMA_8B, 3, False), (QWEN2_HALF_B, 4, False)],
    ids=["a head each", "repeated heads", "no third", "14 heads"],
)
def test_heads_are_split_evenly_or_not_at_all(
    config: dict[str, Any], gpus: int, splits: bool
) -> None:
    assert can_split(derive_shape(config), gpus) == splits


def test_what_fits_says_how_many_tokens_are_left() -> None:
    fit = check_fit(derive_shape(LLAMA_8B), Question(80 * GIB))
    assert fit.fits
    assert fit.sequences == fit.tokens // 8192 > 40
    assert f"{fit.tokens} tokens of cache" in fit.message


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        (None, "None"),
        ({"quant_method": "fp8"}, "FP8"),
        ({"quant_method": "gptq", "bits": 4}, "Int4"),
        ({"config_groups": {"a": {"weights": {"num_bits": 8, "type": "int"}}}}, "Int8"),
        ({"config_groups": {"a": {"weights": {"num_bits": 8, "type": "float"}}}}, "FP8"),
    ],
    ids=["nothing", "fp8", "gptq", "int8 groups", "float groups"],
)
def test_auto_keeps_what_the_checkpoint_declares(declared: Any, name: str) -> None:
    assert declared_quantization({"quantization_config": declared}) == name


def test_a_config_without_a_size_is_refused_by_the_fields_name() -> None:
    with pytest.raises(KeyError, match="hidden_size"):
        derive_shape({"num_attention_heads": 1, "intermediate_size": 1})


@given(st.integers(1, 200), st.sampled_from(["None", "FP8", "Int8", "Int4"]))
def test_more_memory_never_holds_fewer_tokens(memory_gib: int, quantization: str) -> None:
    shape = derive_shape(LLAMA_8B)
    less = check_fit(shape, Question(memory_gib * GIB, quantization))
    more = check_fit(shape, Question((memory_gib + 1) * GIB, quantization))
    assert more.tokens >= less.tokens
