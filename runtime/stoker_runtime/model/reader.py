"""Reads tensors' bytes into one blob with several threads, which turn products into panels.

Knows files, offsets and an anonymous memory map; does not know torch: the threads are started
before it is imported and read while it is. Called by the engine process and by `weights`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.kernels.panels import Panels, can_panel
from stoker_runtime.model.checkpoint import Stored
from stoker_runtime.model.layout import Fused

_ALIGNMENT = 64
_NUM_THREADS = 4
_PIECE_BYTES = 8 << 20
_PANEL_DTYPES = ("F32", "BF16", "F16")


@dataclass(frozen=True, slots=True)
class Placed:
    """A stored tensor and where in the blob it goes."""

    tensor: Stored
    at: int
    panels: Panels | None = None
    """The product that it is a part of, if that lies in panels once it is read."""


@dataclass(frozen=True, slots=True)
class _Piece:
    tensor: Stored
    begin: int
    """Within the tensor."""
    num_bytes: int
    at: int
    slab: Panels | None
    """What can be turned once all pieces of it are there."""


def place_tensors(
    layout: Sequence[Fused], stored: dict[str, Stored], in_panels: Container[Fused] = ()
) -> dict[str, Placed]:
    """A place for every tensor: fused ones touch, each group starts at a multiple of 64.

    in_panels: what is to lie in panels if it can.
    """
    placed: dict[str, Placed] = {}
    at = 0
    for fused in layout:
        at += -at % _ALIGNMENT
        panels = _plan_panels(fused, stored, at) if fused in in_panels else None
        for part in fused.parts:
            tensor = stored[part.name]
            at += -at % tensor.item_bytes  # a gap only where dtypes differ
            placed[part.name] = Placed(tensor, at, panels)
            at += tensor.num_bytes
    return placed


def turn_to(blob: mmap.mmap, have: dict[str, Placed], want: dict[str, Placed]) -> bool:
    """Make a blob that lies as `have` says lie as `want` does; False if more differs than panels.

    Turning is quicker than reading again; nobody may be looking at the blob meanwhile.
    """
    raw = ({n: replace(one, panels=None) for n, one in placed.items()} for placed in (have, want))
    if next(raw) != next(raw):
        return False
    before, after = (_panels_of(placed) for placed in (have, want))
    with memoryview(blob) as view:
        for panels in before ^ after:
            panels.turn(view, back=panels in before)
    return True


class BlobReader:
    """Fills a blob in the background; `wait` returns it full or raises what went wrong."""

    def __init__(self, placed: dict[str, Placed], num_threads: int = _NUM_THREADS) -> None:
        pieces = [piece for one in placed.values() for piece in _cut(one)]
        self._pieces = iter(pieces)
        self._missing = {piece.slab: piece.slab.num_bytes for piece in pieces if piece.slab}
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
                if piece.slab and self._is_whole(piece.slab, piece.num_bytes):
                    piece.slab.turn(self._view)
        except (CheckpointBroken, MemoryError) as error:
            self._error = error
        except OSError as error:
            self._error = CheckpointBroken(f"the weights can't be read: {error}")

    def _take(self) -> _Piece | None:
        with self._lock:
            piece = next(self._pieces, None)
            if piece and (file := piece.tensor.file) not in self._files:
                self._files[file] = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
            return piece

    def _is_whole(self, slab: Panels, num_bytes: int) -> bool:
        """With these bytes that were just read."""
        with self._lock:
            self._missing[slab] -= num_bytes
            return self._missing[slab] == 0

    def _read(self, piece: _Piece) -> None:
        file, at = piece.tensor.file, piece.at
        for offset, num_bytes in piece.tensor.runs(piece.begin, piece.begin + piece.num_bytes):
            done = 0
            while done < num_bytes:
                target = self._view[at + done : at + num_bytes]
                count = os.preadv(self._files[file], [target], offset + done)
                if count == 0:
                    raise CheckpointBroken(f"{file} became shorter while it was read")
                done += count
            at += num_bytes


def _plan_panels(fused: Fused, stored: dict[str, Stored], at: int) -> Panels | None:
    """The product as panels, if all of it is stored in one dtype that the library multiplies."""
    tensors = [stored[part.name] for part in fused.parts]
    rows, columns = fused.shape
    row_bytes = columns * tensors[0].item_bytes
    is_even = tensors[0].dtype in _PANEL_DTYPES and len({one.dtype for one in tensors}) == 1
    return Panels(at, rows, row_bytes) if is_even and can_panel(rows, row_bytes) else None


def _cut(placed: Placed) -> Iterator[_Piece]:
    """In reads of 8 MiB at most, each within one slab of its product."""
    tensor, begin = placed.tensor, placed.at
    end = begin + tensor.num_bytes
    for first, last, slab in _slabs(placed):
        for at in range(max(first, begin), min(last, end), _PIECE_BYTES):
            num_bytes = min(_PIECE_BYTES, last - at, end - at)
            yield _Piece(tensor, at - begin, num_bytes, at, slab)


def _slabs(placed: Placed) -> Iterator[tuple[int, int, Panels | None]]:
    """From, to and the slab of a product there."""
    if placed.panels is None:
        yield placed.at, placed.at + placed.tensor.num_bytes, None
        return
    for slab in placed.panels.slabs():
        yield slab.at, slab.at + slab.num_bytes, slab


def _panels_of(placed: dict[str, Placed]) -> set[Panels]:
    return {one.panels for one in placed.values() if one.panels}
