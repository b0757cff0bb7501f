"""GPUs by the names that people call them."""

from __future__ import annotations

import pytest
import typer

from stoker_cli.card import MEMORY_MIB, find_memory_gib


@pytest.mark.parametrize("name", MEMORY_MIB)
def test_a_name_means_its_memory_however_it_is_spelled(name: str) -> None:
    assert 15 < find_memory_gib(name.lower()) <= 180


def test_an_unknown_gpu_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(typer.BadParameter, match="H100, H200, B200, not 'K80'; --memory takes"):
        find_memory_gib("K80")
