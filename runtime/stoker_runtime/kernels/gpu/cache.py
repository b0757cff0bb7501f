"""The compiled kernels as files: one index and one blob of machine code per generation of GPUs.

Knows the files' format; does not know Triton, torch or a driver. Written by `compiler` when an
image is built, read by `driver` at start.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from stoker_runtime.errors import ConfigInvalid

COMPILED = Path(__file__).with_name("compiled")
"""Where an image has them: beside their sources."""
_FORMAT = 1
_SIZES = {"u64": "Q", "b64": "Q", "s64": "q", "u32": "i", "s32": "i", "b32": "i", "f32": "f"}
"""PTX's types of parameters → how `struct` writes them, with the alignment that C has."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One specialisation, compiled."""

    key: str
    symbol: str
    """Name of the function in the machine code."""
    params: tuple[str, ...]
    """PTX's types of all parameters: our arguments, then pointers to scratch memory (unused)."""
    num_threads: int
    """Of a block."""
    shared_bytes: int
    """Shared memory that a launch must ask for."""
    num_registers: int
    """Of a thread."""
    stack_bytes: int
    """Memory of a thread for what its registers do not hold: 0 is wanted."""
    at: int = 0
    """Where its code begins in the blob."""
    num_bytes: int = 0

    @property
    def layout(self) -> str:
        """The parameters as `struct` writes them."""
        return "".join(_SIZES[one] for one in self.params)


@dataclass(frozen=True, slots=True)
class Compiled:
    """All kernels for one generation of GPUs."""

    entries: dict[str, Entry]
    code: bytes

    def code_of(self, entry: Entry) -> bytes:
        """Its machine code, an ELF file."""
        return self.code[entry.at : entry.at + entry.num_bytes]


def write_compiled(folder: Path, arch: str, made: Iterable[tuple[Entry, bytes]]) -> list[Entry]:
    """Write index and blob; the index last, so that what is there is whole. The entries, placed."""
    entries, blob = [], bytearray()
    for entry, code in made:
        entries.append(replace(entry, at=len(blob), num_bytes=len(code)))
        blob += code
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{arch}.bin").write_bytes(blob)
    index = {
        "format": _FORMAT,
        "sources": hash_sources(),
        "entries": [asdict(one) for one in entries],
    }
    partial = folder / f"{arch}.partial"
    partial.write_text(json.dumps(index, indent=1))
    partial.rename(folder / f"{arch}.json")
    return entries


def read_compiled(folder: Path, arch: str) -> Compiled:
    """The kernels for `arch`; raises `ConfigInvalid` if they are absent or of other sources."""
    path = folder / f"{arch}.json"
    command = f"`stoker kernels build --arch {arch}`"
    try:
        index = json.loads(path.read_text())
        code = path.with_suffix(".bin").read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigInvalid(
            f"no kernels for {arch} in {folder} ({error}); build them: {command}"
        ) from error
    if (index["format"], index["sources"]) != (_FORMAT, hash_sources()):
        raise ConfigInvalid(f"{path} was built from other sources; build it again: {command}")
    entries = [Entry(**{**one, "params": tuple(one["params"])}) for one in index["entries"]]
    return Compiled({entry.key: entry for entry in entries}, code)


@functools.cache
def hash_sources() -> str:
    """Of everything that says what the kernels are."""
    digest = hashlib.blake2b(digest_size=16)
    here = Path(__file__).parent
    for path in sorted((*here.rglob("*.py"), *here.glob("tables/*.json"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()
