"""All kernels there are, and what each is compiled for.

Knows the names of the host files; does not know what any of them computes. Called by `compiler`,
and by the interpreter, which takes no launch that is not compiled.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from stoker_runtime.kernels.gpu.registry import Arch, Specialisation

FILES = ("adjust", "attention", "gate", "moe", "norm", "rows", "sampling", "turn", "w4a16", "w8a8")
"""Host files that declare kernels, each named like its file in `device`."""


def specialisations(arch: Arch) -> Iterator[Specialisation]:
    """Everything to compile for a generation of GPUs."""
    for file in FILES:
        yield from specialisations_of(file, arch)


def specialisations_of(file: str, arch: Arch) -> Iterator[Specialisation]:
    """What one file declares."""
    assert file in FILES, f"{file} is not in the catalogue"
    module = importlib.import_module(f"stoker_runtime.kernels.gpu.{file}")
    yield from module.specialisations(arch)
