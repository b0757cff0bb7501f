"""The library that `build.py` compiled of `native.cpp`, as functions of tensors.

Knows ctypes and the layout of its structures; does not know what is packed or when (`packed` does).
On a machine without the library `find_library` says None, and everything is computed with torch.
"""

from __future__ import annotations

import ctypes
import functools
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from stoker_runtime.kernels.build import pick_library

PANEL = 16
"""Rows of a weight that are stored side by side."""


class NativeWeight(ctypes.Structure):
    """`struct Weight` of native.cpp."""

    _fields_ = (
        ("kind", ctypes.c_int32),
        ("rows", ctypes.c_int32),
        ("cols", ctypes.c_int32),
        ("group", ctypes.c_int32),
        ("units", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
        ("shifts", ctypes.c_void_p),
        ("bias", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Library:
    """The functions of native.cpp; all tensors are contiguous and on the CPU."""

    functions: ctypes.CDLL

    def start_threads(self, num_threads: int) -> None:
        """Compute with that many threads at least, the caller included."""
        self.functions.stoker_start_threads(ctypes.c_int(num_threads))

    def pack(self, rows: torch.Tensor) -> torch.Tensor:  # [panels, units, 16] int32
        """Put rows of whole 32-bit units, of any dtype, side by side in panels of 16."""
        rows = rows.contiguous()
        num_rows, num_units = rows.shape[0], rows.shape[1] * rows.itemsize // 4
        assert num_units * 4 == rows.shape[1] * rows.itemsize, "a row must be whole units"
        packed = torch.empty(-(-num_rows // PANEL), num_units, PANEL, dtype=torch.int32)
        self.functions.stoker_pack(_pointer(rows), num_rows, num_units, _pointer(packed))
        return packed

    def multiply(
        self, weight: NativeWeight, x: torch.Tensor
    ) -> torch.Tensor:  # [num_rows, weight.rows] float32
        """x · Wᵀ + b; x: [num_rows, weight.cols] float32."""
        out = torch.empty(x.shape[0], weight.rows)
        self.functions.stoker_multiply(ctypes.byref(weight), _pointer(x), _pointer(out), x.shape[0])
        return out


@functools.cache
def find_library() -> Library | None:
    """The library for this processor, if it was built."""
    path = pick_library(_cpu_flags(Path("/proc/cpuinfo")), platform.machine())
    if path is None:
        return None
    return Library(ctypes.CDLL(str(path)))


def _cpu_flags(cpuinfo: Path) -> list[str]:
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "").split()


def _pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())
