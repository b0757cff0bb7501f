"""Reads tensors' bytes into one blob with several threads.

Knows files, offsets and an anonymous memory map; does not know torch: the threads are started
before it is imported and read while it is. Called by the engine process and by `weights`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.model.checkpoint import Stored
from stoker_runtime.model.layout import Fused

_ALIGNMENT = 64
_NUM_THREADS = 4
_PIECE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Placed:
    """A stored tensor and where in the blob it goes."""

    tensor: Stored
    at: int


@dataclass(frozen=True, slots=True)
class _Piece:
    file: Path
    offset: int
    num_bytes: int
    at: int


def place_tensors(layout: Sequence[Fused], stored: dict[str, Stored]) -> dict[str, Placed]:
    """A place for every tensor: fused ones touch, each group starts at a multiple of 64."""
    placed: dict[str, Placed] = {}
    at = 0
    for fused in layout:
        at += -at % _ALIGNMENT
        for part in fused.parts:
            tensor = stored[part.name]
            at += -at % tensor.item_bytes  # a gap only where dtypes differ
            placed[part.name] = Placed(tensor, at)
            at += tensor.num_bytes
    return placed


class BlobReader:
    """Fills a blob in the background; `wait` returns it full or raises what went wrong."""

    def __init__(self, placed: dict[str, Placed], num_threads: int = _NUM_THREADS) -> None:
        pieces = [piece for one in placed.values() for piece in _cut(one)]
        self._pieces = iter(pieces)
        self._lock = threading.Lock()
        self._files: dict[Path, int] = {}
        self._error: Exception | None = None
        size = max(1, max(piece.at + piece.num_bytes for piece in pieces))
        self._blob = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError, AttributeError):  # fewer page faults; not everywhere
            self._blob.madvise(mmap.MADV_HUGEPAGE)
        self._view = memoryview(self._blob)
        self._threads = [
            threading.Thread(target=self._work, name=f"weights-{index}", daemon=True)
            for index in range(max(1, num_threads))
        ]

    def start(self) -> BlobReader:
        """Begin to read."""
        for thread in self._threads:
            thread.start()
        return self

    def wait(self) -> mmap.mmap:
        """The blob with all bytes in it."""
        for thread in self._threads:
            thread.join()
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()
        self._view.release()
        if self._error:
            raise self._error
        return self._blob

    def _work(self) -> None:
        try:
            while self._error is None and (piece := self._take()):
                self._read(piece)
        except CheckpointBroken as error:
            self._error = error
        except OSError as error:
            self._error = CheckpointBroken(f"the weights can't be read: {error}")

    def _take(self) -> _Piece | None:
        with self._lock:
            piece = next(self._pieces, None)
            if piece and piece.file not in self._files:
                self._files[piece.file] = os.open(piece.file, os.O_RDONLY | os.O_CLOEXEC)
            return piece

    def _read(self, piece: _Piece) -> None:
        done = 0
        while done < piece.num_bytes:
            target = self._view[piece.at + done : piece.at + piece.num_bytes]
            count = os.preadv(self._files[piece.file], [target], piece.offset + done)
            if count == 0:
                raise CheckpointBroken(f"{piece.file} became shorter while it was read")
            done += count


def _cut(placed: Placed) -> list[_Piece]:
    tensor = placed.tensor
    return [
        _Piece(
            tensor.file,
            tensor.offset + start,
            min(_PIECE_BYTES, tensor.num_bytes - start),
            placed.at + start,
        )
        for start in range(0, tensor.num_bytes, _PIECE_BYTES)
    ]
