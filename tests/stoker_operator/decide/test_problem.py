"""What keeps pods from being made, named by field and value."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_operator.decide.problem import derive_problem
from support.builders import make_llm

CLAIMS = {"models"}


def test_a_claim_that_exists_is_no_problem() -> None:
    assert derive_problem(make_llm(), CLAIMS) is None
    assert derive_problem(make_llm(resources={"gpus": 1}), CLAIMS) is None
    assert derive_problem(make_llm(resources={"gpus": 16}), CLAIMS) is None


@pytest.mark.parametrize("quantization", ["Auto", "None", "Int8", "Int4"])
def test_weights_may_be_rounded_anywhere(quantization: str) -> None:
    model = {"source": "pvc://models/x", "quantization": quantization}
    assert derive_problem(make_llm(model=model), CLAIMS) is None
    assert derive_problem(make_llm(model=model, resources={"gpus": 1}), CLAIMS) is None


def test_weights_and_keys_may_be_floats_of_8_bits_on_gpus() -> None:
    model = {"source": "pvc://models/x", "quantization": "FP8"}
    engine = {"kvCacheDtype": "FP8"}
    assert (
        derive_problem(make_llm(model=model, engine=engine, resources={"gpus": 1}), CLAIMS) is None
    )


@pytest.mark.parametrize("dtype", ["Auto", "Int8"])
def test_keys_and_values_may_be_rounded_anywhere(dtype: str) -> None:
    engine = {"kvCacheDtype": dtype}
    assert derive_problem(make_llm(engine=engine), CLAIMS) is None
    assert derive_problem(make_llm(engine=engine, resources={"gpus": 1}), CLAIMS) is None


@pytest.mark.parametrize(
    ("spec", "reason", "words"),
    [
        ({"model": {"source": "hf://org/x"}}, "SourceUnsupported", ["hf://org/x", "pvc://"]),
        ({"model": {"source": "s3://bucket/x"}}, "SourceUnsupported", ["s3://bucket/x"]),
        ({"model": {"source": "https://h/x"}}, "SourceUnsupported", ["https://h/x"]),
        ({"model": {"source": "pvc://other/x"}}, "ClaimNotFound", ["other", "namespace ns"]),
        (
            {"model": {"source": "pvc://models/x", "quantization": "FP8"}},
            "FieldUnsupported",
            ["spec.model.quantization FP8 on CPUs", "Auto, None, Int8 or Int4"],
        ),
        (
            {"engine": {"kvCacheDtype": "FP8"}},
            "FieldUnsupported",
            ["engine.kvCacheDtype FP8 on CPUs", "use Auto or Int8"],
        ),
    ],
)
def test_names_the_field_the_value_and_the_remedy(
    spec: dict[str, Any], reason: str, words: list[str]
) -> None:
    problem = derive_problem(make_llm(**spec), CLAIMS)
    assert problem is not None
    assert problem.reason == reason
    assert all(word in problem.message for word in words)
