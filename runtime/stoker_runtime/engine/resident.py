"""Weights that wait in host memory for their model to be loaded.

Knows folders, blobs and how much memory they may fill; does not know torch or what a model is built
of. Filled by a thread of its own, so that a standby serves `/load` meanwhile; read by `tenancy`.
A blob is read-only by agreement: the decoder's weights are views of it and outlive no model.
"""

from __future__ import annotations

import logging
import mmap
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from stoker_runtime.config import Config
from stoker_runtime.engine.loading import Recipe, prepare
from stoker_runtime.engine.machine import Machine
from stoker_runtime.errors import OutOfMemory
from stoker_runtime.model.reader import BlobReader, Placed, turn_to
from stoker_runtime.wire import Resident

log = logging.getLogger(__name__)

_TRIAL_TOKENS = 16
"""Of a model that is made only to see whether it works."""
Stamp = tuple[tuple[str, int, int], ...]
"""Name, size and time of change of every file: whether the files are still those that were read."""


@dataclass(frozen=True, slots=True)
class _Held:
    placed: dict[str, Placed]
    stamp: Stamp
    blob: mmap.mmap
    has_worked: bool | None = None
    """Whether a model made of it has made a token; None: nobody has tried."""


class Residents:
    """Blobs by folder. Those that can't be read or no longer fit are left out, and said so."""

    def __init__(
        self, config: Config, machine: Machine, report: Callable[[Resident], None]
    ) -> None:
        self._config = config
        self._machine = machine
        self._report = report
        self._room = config.preload_bytes // machine.share.ranks or machine.available_bytes // 2
        self._held: dict[Path, _Held] = {}
        self._done = {folder: threading.Event() for folder in config.preload_folders}

    def start(self) -> None:
        """Begin to read, most wanted first."""
        if self._done:
            threading.Thread(target=self._fill, name="residents", daemon=True).start()

    def num_bytes(self, folder: Path) -> int:
        """What is held of a folder; waits for one that is about to be held."""
        if folder in self._done:
            self._done[folder].wait()
        held = self._held.get(folder)
        return len(held.blob) if held else 0

    def claim(self, recipe: Recipe) -> mmap.mmap | None:
        """The bytes of a recipe, if they are here and are still what the files hold.

        They are turned to lie as this recipe wants its products. Bytes in other places, or whose
        files have changed, are of no use to anybody and are let go.
        """
        folder = recipe.config.model
        held = self._held.pop(folder, None)  # not here if turning it fails half-way
        if held is None:
            return None
        is_current = held.stamp == _stamp(recipe.placed.values())
        if is_current and turn_to(held.blob, held.placed, recipe.placed):
            self._held[folder] = replace(held, placed=recipe.placed)
            return held.blob
        self.drop(folder, "the files changed, or are wanted in other places")
        return None

    @property
    def has_untried(self) -> bool:
        """Whether some are being read, or have not been tried yet."""
        all_read = all(done.is_set() for done in self._done.values())  # first: reading goes on
        return not all_read or self.next_untried() is not None

    def next_untried(self) -> Config | None:
        """One that nobody has made a model of, as a small model to try."""
        for folder, held in tuple(self._held.items()):
            if held.has_worked is None:
                return replace(self._config, model=folder, max_model_len=_TRIAL_TOKENS)
        return None

    def note_trial(self, folder: Path, has_worked: bool) -> None:
        """A model that was made of these bytes made a token, or was not asked to."""
        if folder in self._held:
            self._held[folder] = replace(self._held[folder], has_worked=has_worked)

    def has_worked(self, folder: Path) -> bool:
        """Whether a token was made of them."""
        return folder in self._held and self._held[folder].has_worked is True

    def drop(self, folder: Path, why: str) -> None:
        """Hold it no longer."""
        self._held.pop(folder, None)
        log.warning("%s is held no longer: %s", folder, why)
        self._report(Resident(str(folder), 0, why))

    def _fill(self) -> None:
        for folder, done in self._done.items():
            try:
                self._read(folder)
            except Exception as error:  # whatever it is, the others are still wanted
                log.warning("%s is not preloaded: %s", folder, error)
                self._report(Resident(str(folder), 0, str(error)))
            finally:
                done.set()

    def _read(self, folder: Path) -> None:
        placed = prepare(replace(self._config, model=folder), self._machine).placed
        num_bytes = max(one.at + one.tensor.num_bytes for one in placed.values())
        if num_bytes > self._room:
            raise OutOfMemory(
                f"it has {num_bytes} bytes, `preload_bytes` has room for {self._room}"
            )
        stamp = _stamp(placed.values())
        blob = BlobReader(placed).start().wait()
        self._held[folder] = _Held(placed, stamp, blob)
        self._room -= num_bytes
        log.info("%s is resident: %s bytes", folder, num_bytes)
        self._report(Resident(str(folder), num_bytes))


def _stamp(placed: Iterable[Placed]) -> Stamp:
    files = sorted({one.tensor.file for one in placed})
    found = ((file, file.stat()) for file in files)
    return tuple((str(file), status.st_size, status.st_mtime_ns) for file, status in found)
