"""Texts of the models to preload, ready to be taken.

Knows folders and whether their files are still those that were read; does not know phases or the
engine. A tokenizer remembers words that it has seen, so what was taken never comes back: `fill`,
called whenever there is no model, reads it anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from stoker_runtime.errors import StokerRuntimeError
from stoker_runtime.server.texts import Texts, import_texts, load_texts

Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of every file."""


class Shelf:
    """One `Texts` per folder, until it is taken."""

    def __init__(self, folders: Iterable[Path] = ()) -> None:
        """Nothing is read before `fill`."""
        self._folders = tuple(folders)
        self._ready: dict[Path, tuple[Stamp, Texts]] = {}

    def fill(self) -> None:
        """Import what texts need, and read what is missing; what can't be read is left out."""
        import_texts()
        for folder in self._folders:
            if folder not in self._ready:
                with suppress(StokerRuntimeError, OSError):  # whoever loads it is told
                    self._ready[folder] = _stamp(folder), load_texts(folder)

    def take(self, folder: Path) -> Texts:
        """The texts of any folder, read now unless they are here. Raises `StokerRuntimeError`."""
        stamp, texts = self._ready.pop(folder, ((), None))
        with suppress(OSError):
            if texts and stamp == _stamp(folder):
                return texts
        return load_texts(folder)


def _stamp(folder: Path) -> Stamp:
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.stat()) for entry in entries]
    return tuple(sorted((name, status.st_size, status.st_mtime_ns) for name, status in found))
