"""The `model` and `engine` parts: which flags users may add, and what stays the operator's."""

import pytest
from pydantic import ValidationError

from stoker_api.engine import RESERVED_FLAGS, EngineSpec, ModelSpec
from stoker_api.source import ModelSource
from stoker_runtime.config import flag_names

USERS_OWN = {
    "--max-batched-tokens",
    "--kv-cache-tokens",
    "--block-size",
    "--dtype",
    "--threads",
    "--seed",
    "--log-format",
    "--max-body-bytes",
    "--max-silence-s",
    "--max-step-s",
    "--max-waiting",
    "--max-waiting-tokens",
    "--prefix-cache-tokens",
    "--overlap",
    "--gpu-memory-utilization",
}
"""Flags of the runtime that no field of the spec sets, so that `extraArgs` may."""


def test_every_flag_of_the_runtime_is_either_the_users_or_ours() -> None:
    assert set(flag_names()) - set(RESERVED_FLAGS) == USERS_OWN


@pytest.mark.parametrize("flag", sorted(USERS_OWN))
def test_flags_that_no_field_sets_are_passed_on(flag: str) -> None:
    assert EngineSpec.model_validate({"extraArgs": [f"{flag}=7"]}).extra_args == [f"{flag}=7"]


@pytest.mark.parametrize("flag", RESERVED_FLAGS)
@pytest.mark.parametrize("form", ["{}", "{}=7"])
def test_flags_of_ours_are_refused_by_name(flag: str, form: str) -> None:
    text = form.format(flag)
    with pytest.raises(ValidationError, match=f"must not set what fields set, was {text}"):
        EngineSpec.model_validate({"extraArgs": ["--seed=1", text]})


@pytest.mark.parametrize("word", ["seed=7", "-s", "", " --seed=7"])
def test_words_that_are_no_flags_are_refused(word: str) -> None:
    with pytest.raises(ValidationError, match="must be flags such as --seed=7"):
        EngineSpec.model_validate({"extraArgs": [word]})


def test_only_so_many_flags_are_taken() -> None:
    EngineSpec.model_validate({"extraArgs": ["--seed=1"] * 32})
    with pytest.raises(ValidationError, match="at most 32"):
        EngineSpec.model_validate({"extraArgs": ["--seed=1"] * 33})


def test_a_source_is_kept_as_text_and_taken_apart_on_demand() -> None:
    model = ModelSpec(source="hf://org/name@v1")
    assert model.source == "hf://org/name@v1"
    assert model.parsed_source == ModelSource("hf", "org/name", revision="v1")
