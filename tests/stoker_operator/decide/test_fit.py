"""Bytes of weights and KV cache, against checkpoints whose sizes are published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_operator.decide.fit import (
    GIB,
    Question,
    can_split,
    check_fit,
    kv_bytes_per_token,
    suggest_fits,
    weights_bytes,
)
from stoker_operator.decide.shape import derive_shape
from stoker_runtime.config import Config
from stoker_runtime.engine.memory import GpuMemory, gpu_space, plan_memory
from stoker_runtime.model.spec import read_spec
from support.configs import LLAMA_8B, LLAMA_70B, QWEN2_HALF_B


def test_every_parameter_takes_two_bytes() -> None:
    assert weights_bytes(derive_shape(LLAMA_8B), "None") == 2 * 8_030_261_248
    assert weights_bytes(derive_shape(QWEN2_HALF_B), "None") == 2 * 494_032_768


def test_eight_thousand_tokens_of_llama_take_a_gibibyte() -> None:
    assert 8192 * kv_bytes_per_token(derive_shape(LLAMA_8B)) == GIB


def test_quantised_weights_carry_their_scales() -> None:
    shape = derive_shape(LLAMA_8B)
    whole = 2 * shape.whole_parameters
    four = weights_bytes(shape, "Int4", group_size=128) - whole
    eight = weights_bytes(shape, "Int8") - whole
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
    assert "of 14.40 GiB usable per GPU: 2.80 GiB too much" in fit.message
    assert suggest_fits(shape, Question(16 * GIB)) == (
        "a checkpoint stored in 8 bits (`stoker quantize --bits 8`)",
        "resources.gpus: 2",
        "GPUs of 20 GiB",
    )


def test_what_is_rounded_while_loading_needs_room_for_both() -> None:
    shape = derive_shape(LLAMA_8B)
    rounded = Question(24 * GIB, "FP8")
    assert not check_fit(shape, rounded).fits
    assert "while rounding 22.46 GiB: 0.86 GiB too much" in check_fit(shape, rounded).message
    assert check_fit(shape, rounded).sequences == 0
    assert check_fit(shape, replace(rounded, is_stored=True)).fits
    assert check_fit(shape, replace(rounded, memory_bytes=26 * GIB)).fits
    long = Question(26 * GIB, max_model_len=131072)
    assert suggest_fits(shape, long)[0] == "model.quantization: Int4"


def test_a_checkpoint_that_is_quantised_is_not_rounded_again() -> None:
    shape = derive_shape(LLAMA_70B)
    question = Question(40 * GIB, "Int4", is_stored=True, group_size=128)
    assert check_fit(shape, question).message.startswith("weights 37.04 GiB")
    assert suggest_fits(shape, question) == ("resources.gpus: 2", "GPUs of 46 GiB")
    coarse = replace(question, group_size=0)
    assert check_fit(shape, coarse).weights_bytes < check_fit(shape, question).weights_bytes


def test_the_runtime_plans_the_same_cache(tmp_path: Path) -> None:
    """Of 80 GiB 1 GiB less half is CUDA's; both sums agree within a hundredth."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    spec, config = read_spec(tmp_path), Config(max_num_seqs=32, kv_cache_tokens=0)
    fit = check_fit(derive_shape(LLAMA_8B), Question(80 * GIB))
    memory = GpuMemory(80 * GIB, 80 * GIB - fit.weights_bytes - GIB // 2, fit.weights_bytes)
    space = gpu_space(spec, config, memory, 2, by_kernels=True)
    left = space.available_bytes - fit.weights_bytes - space.activation_bytes - space.other_bytes
    assert left // spec.kv_bytes_per_token("bfloat16") == pytest.approx(fit.tokens, rel=0.01)
    plan = plan_memory(spec, config, "bfloat16", fit.weights_bytes, space)
    assert plan.max_model_len == fit.max_model_len


def test_a_smaller_cache_or_a_shorter_length_is_offered_where_only_the_cache_is_too_large() -> None:
    shape, question = derive_shape(LLAMA_8B), Question(24 * GIB, max_model_len=65536)
    remedies = suggest_fits(shape, question)
    tokens = check_fit(shape, question).tokens
    assert f"engine.maxModelLen: {tokens}" in remedies
    assert check_fit(shape, replace(question, max_model_len=tokens)).fits
    small = suggest_fits(shape, replace(question, max_model_len=tokens * 3 // 2))
    assert small[0] == "engine.kvCacheDtype: Int8"
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
    assert suggest_fits(shape, question)[1] == "resources.gpus: 4"


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


@given(st.integers(1, 200), st.sampled_from(["None", "FP8", "Int8", "Int4"]))
def test_more_memory_never_holds_fewer_tokens(memory_gib: int, quantization: str) -> None:
    shape = derive_shape(LLAMA_8B)
    less = check_fit(shape, Question(memory_gib * GIB, quantization))
    more = check_fit(shape, Question((memory_gib + 1) * GIB, quantization))
    assert more.tokens >= less.tokens


def test_small_models_are_told_in_mebibytes() -> None:
    assert (
        "= 96.0 MiB of KV cache"
        in check_fit(derive_shape(QWEN2_HALF_B), Question(80 * GIB, max_model_len=8192)).message
    )
