"""Keys on disk: the folder of API keys, read again when it changes, and the internal key.

Knows files; which key is accepted is decided by `admission.Keys`. Looked at on use, at most once a
second, so that an idle gateway does nothing.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from stoker_api.tokens import derive_token
from stoker_gateway.admission import Keys

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0


class KeyFolder:
    """API keys, one per file; without a folder no key is asked for."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._looked_at = 0.0
        self._state: object = None
        self._keys = Keys(None if folder is None else [])

    def accept(self, authorization: bytes | None) -> bool:
        """Whether the header carries a key that is in the folder now."""
        if self._folder is None:
            return True
        now = time.monotonic()
        if now - self._looked_at > LOOK_EVERY_S:
            self._looked_at = now
            self._look(self._folder)
        return self._keys.accept(authorization)

    def _look(self, folder: Path) -> None:
        try:
            files = [path for path in folder.iterdir() if _is_key(path)]
            state = {(path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in files}
            if state != self._state:
                self._keys = Keys(path.read_text().strip() for path in files)
                self._state = state
                log.info("%d API keys are accepted", len(files))
        except (OSError, UnicodeDecodeError) as error:
            log.error("API keys cannot be read, the last ones stay: %s", error)


def _is_key(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file()


class InternalKey:
    """The key that internal tokens derive from; without a file internal routes are open."""

    def __init__(self, file: Path | None) -> None:
        self._key = None if file is None else file.read_bytes().strip()
        self._tokens: dict[str, str] = {}
        if file is not None and not self._key:
            raise ValueError(f"{file} is empty")

    def token(self, purpose: str) -> str:
        """The token of a purpose; empty without a key."""
        if self._key is None:
            return ""
        if purpose not in self._tokens:
            self._tokens[purpose] = derive_token(self._key, purpose)
        return self._tokens[purpose]
