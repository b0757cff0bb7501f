"""Signs of life of the workers, in memory that they share with their parent.

Knows one instant per worker; does not know processes. An event loop that turns writes its own once
a second, without a system call; the supervisor reads them all.
"""

from __future__ import annotations

import mmap
import struct
import time

PULSE_S = 1.0
_FORMAT = struct.Struct("d")


class Pulses:
    """The last sign of life of each of a fixed number of workers."""

    def __init__(self, num_workers: int) -> None:
        self._page = mmap.mmap(-1, num_workers * _FORMAT.size)

    def beat(self, index: int) -> None:
        """Worker `index` lives."""
        _FORMAT.pack_into(self._page, index * _FORMAT.size, time.monotonic())

    def silent_s(self, index: int) -> float:
        """Seconds since worker `index` last showed that it lives."""
        (at,) = _FORMAT.unpack_from(self._page, index * _FORMAT.size)
        return time.monotonic() - float(at)
