"""What a model's name says of its size."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_operator.decide.size import guess_fit, parameters_of
from support.builders import make_llm

EIGHT = "pvc://models/llama-3-8b"


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("hf://org/Llama-3-8B", 8),
        ("hf://org/Qwen2.5-0.5B-Instruct", 0.5),
        ("hf://org/SmolLM2-135M", 0.135),
        ("hf://org/Mixtral-8x7B-v0.1", 56),
        ("hf://org/Qwen3-30B-A3B", 30),
        ("hf://org/Qwen1.5-MoE-A2.7B", None),
        ("hf://org/Yi-a34b", None),
        ("hf://org/Llama-70B", 70),
        ("pvc://models/tiny-chat", None),
        ("hf://org/phi-3-4k", None),
    ],
)
def test_reads_the_parameters_of_a_name(model: str, billions: float | None) -> None:
    assert parameters_of(model) == billions


def guess(source: str = EIGHT, quantization: str = "Auto", **resources: Any) -> Any:
    model = {"source": source, "quantization": quantization}
    return guess_fit(make_llm(model=model, resources={"gpus": 0} | resources).spec)


def test_a_name_without_a_size_says_nothing() -> None:
    assert guess("pvc://models/tiny-chat") is None


def test_shows_the_sum_and_what_would_fit() -> None:
    found = guess(memory="8Gi")
    assert found.too_large
    assert found.message == (
        "By its name 8B parameters × 16 bits / 8 = 14.90 GiB of weights, 17.88 GiB with a fifth "
        "for cache and activations; resources.memory is 8Gi. "
        "Would fit: resources.memory: 18Gi or model.quantization: Int4."
    )


def test_the_mildest_rounding_that_fits_is_named() -> None:
    assert guess(memory="12Gi").message.endswith("18Gi or model.quantization: Int8.")
    assert guess(memory="1Gi").message.endswith("Would fit: resources.memory: 18Gi.")


@pytest.mark.parametrize(
    ("source", "quantization", "bits"),
    [
        (EIGHT, "Int8", 8),
        (EIGHT, "Int4", 4),
        (EIGHT, "FP8", 8),
        (EIGHT + "-awq", "Auto", 4),
        (EIGHT + "-FP8", "Auto", 8),
        (EIGHT + "-awq", "None", 16),
    ],
)
def test_bits_follow_the_spec_then_the_name(source: str, quantization: str, bits: int) -> None:
    assert f"× {bits} bits" in guess(source, quantization).message


def test_what_may_fit_is_not_refused() -> None:
    assert not guess(memory="16Gi").too_large
    assert guess().message.endswith("resources.memory sets no limit.")


def test_the_memory_of_gpus_is_not_in_the_spec() -> None:
    assert guess(gpus=1, memory="1Gi").message.endswith("on 1 GPU.")
    assert guess(gpus=4).message.endswith("on 4 GPU (4.47 GiB each).")
    assert not guess(gpus=1, memory="1Gi").too_large
