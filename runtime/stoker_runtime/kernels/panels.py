"""Panels of 16 rows, the way the native library wants matrices to lie, without torch.

Knows where the library is and how bytes are turned in place; does not know tensors (`native`) or
checkpoints. Called by the threads that read weights while torch is being imported.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stoker_runtime.kernels.build import pick_library

PANEL = 16
"""Rows of a weight that are stored side by side."""
_UNIT_BYTES = 4
_SLAB_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Panels:
    """A matrix of whole panels in a blob."""

    at: int
    rows: int
    row_bytes: int

    @property
    def num_bytes(self) -> int:
        """Of the whole matrix."""
        return self.rows * self.row_bytes

    def slabs(self) -> Iterator[Panels]:
        """The same in pieces of whole panels, about 8 MiB each."""
        rows = max(PANEL, _SLAB_BYTES // self.row_bytes // PANEL * PANEL)
        for first in range(0, self.rows, rows):
            at = self.at + first * self.row_bytes
            yield Panels(at, min(rows, self.rows - first), self.row_bytes)

    def turn(self, blob: memoryview, *, back: bool = False) -> None:
        """From rows one after the other to panels, in place, or `back`; lets other threads run."""
        functions = find_functions()
        assert functions is not None, "`can_panel` says whether there is a library"
        data = (ctypes.c_char * self.num_bytes).from_buffer(blob, self.at)
        units = self.row_bytes // _UNIT_BYTES
        has_turned = functions.stoker_turn(data, self.rows // PANEL, units, int(back))
        del data  # an error would keep it, and with it the blob
        if not has_turned:
            raise MemoryError(f"no memory to turn a panel of {PANEL * self.row_bytes} bytes")


def can_panel(rows: int, row_bytes: int) -> bool:
    """Whether such a matrix is whole panels of whole 32-bit units, and there is a library."""
    is_whole = rows % PANEL == 0 and row_bytes % _UNIT_BYTES == 0
    return is_whole and rows * row_bytes > 0 and find_functions() is not None


@functools.cache
def find_functions() -> ctypes.CDLL | None:
    """The library for this processor, if it was built."""
    path = pick_library(_cpu_flags(Path("/proc/cpuinfo")), platform.machine())
    return None if path is None else ctypes.CDLL(str(path))


def _cpu_flags(cpuinfo: Path) -> list[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "").split()
