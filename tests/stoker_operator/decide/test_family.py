"""The operator's table of architectures beside the runtime's own."""

from __future__ import annotations

import pytest

from stoker_operator.decide.family import FAMILIES
from stoker_runtime.model import families as runtime


def test_the_operator_knows_the_architectures_that_the_runtime_serves() -> None:
    assert FAMILIES.keys() == runtime.FAMILIES.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_both_read_a_config_alike(name: str) -> None:
    ours, theirs = FAMILIES[name], runtime.FAMILIES[name]
    assert ours.biases == theirs.biases
    assert ours.has_mlp_bias_field == theirs.has_mlp_bias_field
    assert ours.has_head_norms == theirs.has_head_norms
    assert bool(ours.expert_width) == bool(theirs.experts)
    assert (ours.norms == 4) == theirs.is_gemma
    assert ours.defaults.items() <= theirs.defaults.items()
    sizes = ("head", "tie", "max_position", "moe", "shared", "qkv", "original")
    left_out = theirs.defaults.keys() - ours.defaults.keys()
    assert [field for field in left_out if field.startswith(sizes)] == []
