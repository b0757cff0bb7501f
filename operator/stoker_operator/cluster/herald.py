"""Passes on what a ready pod says of itself, to the gateways that hold requests for it.

Knows who holds requests, by the ledger, and one POST; does not know what gateways conclude. A pod
is heard by one gateway; the others would learn of it by a watch, two writes and tens of
milliseconds later. One that is missed here still does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from stoker_api import names
from stoker_api.demand import Announcement
from stoker_operator.cluster.admin import AdminPorts, Call
from stoker_operator.cluster.ledger import DemandLedger
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import LeaseLost, RuntimeGone, RuntimeSilent

logger = logging.getLogger(__name__)


class Herald:
    """One message for each gateway pod, not waited for."""

    def __init__(
        self,
        ports: AdminPorts,
        ledger: DemandLedger,
        snapshot: Snapshot,
        token: Callable[[str], str | None],
    ) -> None:
        """`token`: the bearer token of a purpose, none where gateways take any word."""
        self._ports = ports
        self._ledger = ledger
        self._snapshot = snapshot
        self._token = token
        self._tasks: set[asyncio.Task[None]] = set()

    def pass_on(self, said: Announcement) -> None:
        """Tell whoever still waits; its workers tell each other."""
        if not said.is_ready:
            return
        for host, port in dict(self._ledger.holding(said.key)).items():
            task = asyncio.create_task(self._tell(f"{host}:{port}", said))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def point(self, deployment: str) -> None:
        """Somebody asks for `namespace/name`: tell of pods that no mark tells of yet."""
        for pod in self._snapshot.pods(deployment):
            said = self._snapshot.announced(pod["metadata"]["uid"])
            marks = pod["metadata"].get("annotations", {})
            if said is not None and names.ANNOTATION_ADDRESS not in marks:
                self.pass_on(said)

    async def _tell(self, address: str, said: Announcement) -> None:
        token = self._token(names.runtime_purpose(said.namespace, said.deployment))
        call = Call(address, names.ANNOUNCE_PATH, token, said.model_dump_json())
        try:
            await self._ports.call(call)
        except (RuntimeSilent, RuntimeGone, LeaseLost) as error:
            logger.debug("gateway %s is not told of %s: %s", address, said.pod, error)
