"""Runtimes' admin ports in memory: standbys that load and unload as they are told.

It implements `stoker_operator.cluster.admin.AdminPorts`: phases by address, equal orders are safe
to repeat, and a test can have a pod refuse, hang or vanish.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from stoker_operator.cluster.admin import Answer, Call
from stoker_operator.errors import RuntimeGone


class FakeAdminPorts:
    """Pods by address."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.loaded: dict[str, dict[str, Any]] = {}
        """Orders that were carried out, by address."""
        self.residents: dict[str, int] = {}
        """Folders that every standby holds, and their bytes."""
        self.refuse: tuple[int, str] | None = None
        """Status and code with which `/load` is refused."""
        self.gone: set[str] = set()
        self.starting: set[str] = set()
        """Pods whose engine is not up yet."""
        self.gate = asyncio.Event()
        """Orders wait for it."""
        self.gate.set()
        self.hearing = asyncio.Event()
        """Questions wait for it."""
        self.hearing.set()

    async def call(self, call: Call) -> Answer:
        """See `AdminPorts`."""
        self.calls.append(call)
        await (self.hearing if call.path == "/state" else self.gate).wait()
        if call.address in self.gone:
            raise RuntimeGone(call.address)
        if call.path == "/load" and call.address in self.starting:
            return Answer(503, {"error": {"code": "loading"}})
        if call.path == "/load" and self.refuse is not None:
            status, code = self.refuse
            return Answer(status, {"error": {"code": code, "message": "it cannot be"}})
        if call.path == "/load":
            self.loaded[call.address] = json.loads(call.body)
        if call.path == "/unload":
            self.loaded.pop(call.address, None)
        return Answer(200, self._state(call.address))

    def orders(self, path: str) -> list[Call]:
        """Calls of one path, oldest first."""
        return [call for call in self.calls if call.path == path]

    def _state(self, address: str) -> dict[str, Any]:
        order = self.loaded.get(address)
        residents = {folder: {"bytes": size} for folder, size in self.residents.items()}
        if address in self.starting:
            return {"phase": "Starting", "residents": {}}
        if order is None:
            return {"phase": "Standby", "residents": residents}
        path = "resident" if order["model"] in self.residents else "warm"
        return {"phase": "Ready", "path": path, "residents": residents}
