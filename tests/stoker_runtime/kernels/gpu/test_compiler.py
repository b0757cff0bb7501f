"""Kernels are compiled without a GPU, and a launch finds all that it asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from stoker_runtime.kernels.gpu.cache import read_compiled
from stoker_runtime.kernels.gpu.catalogue import FILES, specialisations, specialisations_of
from stoker_runtime.kernels.gpu.compiler import Order, build
from stoker_runtime.kernels.gpu.registry import ARCHS


@pytest.mark.timeout(600)  # imports torch and Triton in a process of its own
def test_every_specialisation_is_compiled_for_a_generation(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    order = Order(["sm_80"], tmp_path, 1, files=["rows"])
    made = build(order, lambda done, total: told.append((done, total)))["sm_80"]
    wanted = {one.key: one for one in specialisations_of("rows", ARCHS["sm_80"])}
    compiled = read_compiled(tmp_path, "sm_80")
    assert compiled.entries.keys() == wanted.keys()
    assert told == [(done, len(wanted)) for done in range(1, len(wanted) + 1)]
    for entry in made:
        assert compiled.code_of(entry)[:4] == b"\x7fELF"
        assert entry.layout.startswith("QQQi")
        assert 0 < entry.num_registers <= 255
        assert entry.stack_bytes == 0


@pytest.mark.parametrize("arch", ARCHS)
def test_names_in_the_cache_are_unique(arch: str) -> None:
    keys = [one.key for one in specialisations(ARCHS[arch])]
    assert len(keys) == len(set(keys))


def test_every_file_of_kernels_is_in_the_catalogue() -> None:
    import stoker_runtime.kernels.gpu.device as device

    files = {path.stem for path in Path(device.__path__[0]).glob("[a-z]*.py")}
    assert files == set(FILES)
