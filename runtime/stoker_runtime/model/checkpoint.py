"""The weight files of a checkpoint: what they hold, checked before anything is read.

Knows safetensors headers and the shard index; does not know torch, nor pickle, ever. Called by the
engine process before torch is imported.
"""

from __future__ import annotations

import itertools
import json
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stoker_runtime.errors import CheckpointBroken, CheckpointNotFound
from stoker_runtime.model.layout import Fused, Part
from stoker_runtime.model.spec import ITEM_BYTES, Dtype
from stoker_runtime.quant.layout import Kind

_DTYPES: dict[str, Dtype] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_OF_KIND: dict[Kind, tuple[str, ...]] = {
    "float": tuple(_DTYPES),
    "int8": ("I8",),
    "int32": ("I32",),
    "fp8": ("F8_E4M3",),
}
_ITEM_BYTES = {"I8": 1, "F8_E4M3": 1, "I32": 4} | {
    name: ITEM_BYTES[dtype] for name, dtype in _DTYPES.items()
}
_SINGLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_MAX_HEADER_BYTES = 100_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor's bytes are."""

    name: str
    file: Path
    dtype: str
    """As the file spells it: F32, BF16, …"""
    shape: tuple[int, ...]
    offset: int
    """From the start of the file."""
    num_bytes: int
    run_bytes: int = 0
    """Bytes that lie together, of a share of each row; 0: all do."""
    stride_bytes: int = 0
    """From one of these runs to the next."""

    @property
    def torch_dtype(self) -> Dtype:
        """As torch spells it; `check_tensors` saw to it that there is one for what is no code."""
        return _DTYPES[self.dtype]

    @property
    def item_bytes(self) -> int:
        """Of one element."""
        return _ITEM_BYTES[self.dtype]

    def cut(self, axis: int, start: int, length: int) -> Stored:
        """Only so many of its rows (axis 0) or columns; nothing was cut of it before."""
        row_bytes = self.num_bytes // self.shape[0]
        if axis == 0:
            offset, num_bytes = self.offset + start * row_bytes, length * row_bytes
            shape = (length, *self.shape[1:])
            return replace(self, shape=shape, offset=offset, num_bytes=num_bytes)
        run_bytes = length * self.item_bytes
        return replace(
            self,
            shape=(self.shape[0], length),
            offset=self.offset + start * self.item_bytes,
            num_bytes=self.shape[0] * run_bytes,
            run_bytes=run_bytes,
            stride_bytes=row_bytes,
        )

    def runs(self, begin: int, end: int) -> Iterator[tuple[int, int]]:
        """Where in the file its bytes `begin` to `end` are: offset and length of each run."""
        run_bytes = self.run_bytes or self.num_bytes
        while begin < end:
            index, inside = divmod(begin, run_bytes)
            length = min(run_bytes - inside, end - begin)
            yield self.offset + index * self.stride_bytes + inside, length
            begin += length


def read_headers(folder: Path) -> dict[str, Stored]:
    """All tensors of all weight files by name."""
    stored: dict[str, Stored] = {}
    for file, names in _list_files(folder).items():
        found = _read_header(file)
        for name in names or found:
            if name not in found:
                raise CheckpointBroken(
                    f"{file}: tensor {name} is missing, {_INDEX} says it is here"
                )
            stored[name] = found[name]
    return stored


def check_tensors(
    stored: dict[str, Stored], layout: Sequence[Fused], ignored: tuple[str, ...]
) -> None:
    """Exactly the tensors of the layout, each with its shape and a dtype we know."""
    parts = {part.name: part for fused in layout for part in fused.parts}
    for name, part in parts.items():
        if name not in stored:
            raise CheckpointBroken(
                f"tensor {name} {list(part.shape)} is missing from the checkpoint's "
                f"{len(stored)} tensors: config.json and weights do not belong together"
            )
        _check_tensor(stored[name], part)
    for name, tensor in stored.items():
        if name not in parts and not name.endswith(ignored):
            raise CheckpointBroken(
                f"{tensor.file}: tensor {name} is unexpected: config.json has no place for it"
            )


def _check_tensor(tensor: Stored, part: Part) -> None:
    if tensor.shape != part.shape:
        raise CheckpointBroken(
            f"{tensor.file}: tensor {tensor.name} must have shape {list(part.shape)} "
            f"as config.json says, found {list(tensor.shape)}"
        )
    known = _OF_KIND[part.kind]
    if tensor.dtype not in known:
        raise CheckpointBroken(
            f"{tensor.file}: tensor {tensor.name} must have one of the dtypes "
            f"{', '.join(known)}, found {tensor.dtype}"
        )
    expected = part.num_elements * tensor.item_bytes
    if tensor.num_bytes != expected:
        raise CheckpointBroken(
            f"{tensor.file}: tensor {tensor.name} must have {expected} bytes, "
            f"found {tensor.num_bytes}"
        )


def _list_files(folder: Path) -> dict[Path, list[str]]:
    """Weight files and the tensors wanted from each; an empty list wants all."""
    if (folder / _SINGLE).exists():
        return {folder / _SINGLE: []}
    index = folder / _INDEX
    if not index.exists():
        raise CheckpointNotFound(_absent_message(folder))
    files: dict[Path, list[str]] = {}
    for name, file in _read_weight_map(index).items():
        if not isinstance(file, str) or file in ("", "..") or Path(file).name != file:
            raise CheckpointBroken(
                f"{index}: tensor {name} must be in a file of this folder, was {file!r}"
            )
        files.setdefault(folder / file, []).append(name)
    return files


def _absent_message(folder: Path) -> str:
    message = f"{folder} holds neither {_SINGLE} nor {_INDEX}"
    if pickled := sorted([*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")]):
        return f"{message}; {pickled[0].name} is pickled and never read: convert it to safetensors"
    return f"{message}: was the download complete?"


def _read_weight_map(index: Path) -> dict[str, Any]:
    try:
        weight_map = json.loads(index.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointBroken(f"{index} has no readable `weight_map`: {error!r}") from error
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointBroken(f"{index}: `weight_map` must be an object with entries")
    return weight_map


def _read_header(file: Path) -> dict[str, Stored]:
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe would wait for ever
            raise CheckpointBroken(f"{file} must be a regular file")
        size = status.st_size
        with file.open("rb", buffering=0) as stream:  # a buffer would keep the first weights too
            length = int.from_bytes(stream.read(8), "little")
            text = stream.read(length) if length <= min(size, _MAX_HEADER_BYTES) else b""
    except FileNotFoundError:
        raise CheckpointNotFound(
            f"{file} does not exist, though {_INDEX} names it: was the download complete?"
        ) from None
    except OSError as error:
        raise CheckpointBroken(f"{file} can't be read: {error.strerror}") from error
    if size < 8 or len(text) != length:
        raise CheckpointBroken(
            f"{file} is truncated or not safetensors: its header must have {length} bytes, "
            f"the file has {size}"
        )
    return _parse_header(file, text, 8 + length, size)


def _parse_header(file: Path, text: bytes, start: int, size: int) -> dict[str, Stored]:
    try:
        entries = {name: e for name, e in json.loads(text).items() if name != "__metadata__"}
        tensors = {name: _parse_entry(file, name, e, start) for name, e in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise CheckpointBroken(f"{file}: its header is not safetensors: {error!r}") from error
    for tensor in tensors.values():
        end = tensor.offset + tensor.num_bytes
        if end > size or tensor.num_bytes < 0 or tensor.offset < start:
            raise CheckpointBroken(
                f"{file} is truncated: tensor {tensor.name} ends at byte {end}, the file has {size}"
            )
    _check_overlaps(file, tensors)
    return tensors


def _check_overlaps(file: Path, tensors: dict[str, Stored]) -> None:
    """Every byte belongs to one tensor at most."""
    placed = sorted((one for one in tensors.values() if one.num_bytes), key=lambda one: one.offset)
    for one, following in itertools.pairwise(placed):
        if one.offset + one.num_bytes > following.offset:
            raise CheckpointBroken(f"{file}: tensors {one.name} and {following.name} overlap")


def _parse_entry(file: Path, name: str, entry: dict[str, Any], start: int) -> Stored:
    begin, end = entry["data_offsets"]
    shape = tuple(int(length) for length in entry["shape"])
    return Stored(name, file, str(entry["dtype"]), shape, start + int(begin), int(end) - int(begin))
