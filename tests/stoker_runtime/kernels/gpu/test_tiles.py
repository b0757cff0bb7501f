"""The tables name every work that kernels are compiled for, and come back as they were written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stoker_runtime.kernels.gpu import tiles
from stoker_runtime.kernels.gpu.catalogue import specialisations
from stoker_runtime.kernels.gpu.registry import ARCHS
from stoker_runtime.kernels.gpu.tiles import Shape, find_arch, find_shape, read_table, write_table


@pytest.mark.parametrize("arch", ARCHS)
def test_every_work_of_a_table_is_compiled(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    table, asked = read_table(arch), set()

    class Noted(dict[str, Shape]):
        def __getitem__(self, name: str) -> Shape:
            asked.add(name)
            return super().__getitem__(name)

    monkeypatch.setattr(tiles, "read_table", lambda _: Noted(table))
    assert list(specialisations(ARCHS[arch]))
    assert asked == set(table)


def test_a_table_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "TABLES", tmp_path)
    table = {"work/4/16": Shape(16, 128, 4, 3), "work/8/16": Shape(16, 64, 8, 2)}
    write_table("sm_00", table)
    assert read_table("sm_00") == table
    assert find_shape("sm_00", "work", 8, 16) == Shape(16, 64, 8, 2)
    assert (tmp_path / "sm_00.json").read_text().count("\n") == 4


@pytest.mark.parametrize(
    ("capability", "arch"), [((8, 0), "sm_80"), ((8, 9), "sm_80"), ((9, 0), "sm_90")], ids=str
)
def test_a_device_has_the_table_of_its_generation(
    capability: tuple[int, int], arch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    find_arch.cache_clear()
    assert find_arch(torch.device("cuda", 0)) == arch
    find_arch.cache_clear()
