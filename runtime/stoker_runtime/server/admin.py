"""The routes of the admin port: load, unload, sleep, wake, drain, and where the pod stands.

Knows queries, bodies and answers; does not know in which order anything happens (`switch`). Every
route may be called again; an order that another transition is in the way of is answered with 409.
"""

from __future__ import annotations

from typing import cast
from urllib.parse import parse_qs

import msgspec

from stoker_runtime.server.exchange import Exchange
from stoker_runtime.server.order import read_order
from stoker_runtime.server.refusal import invalid
from stoker_runtime.server.service import Service
from stoker_runtime.server.switch import Level, Switch, Wish

_json = msgspec.json.Encoder().encode


class Admin:
    """The handlers; each answers with the state that it led to."""

    def __init__(self, switch: Switch) -> None:
        """Give orders to `switch`."""
        self._switch = switch

    async def load(self, service: Service, exchange: Exchange) -> None:
        """Take a model in; answered when it made a token, or with what hinders it."""
        config = read_order(exchange.request.body, self._switch.vacant)
        await self._switch.change(Wish("load", config))
        await self.state(service, exchange)

    async def unload(self, service: Service, exchange: Exchange) -> None:
        """Finish what runs, then let go of the model and all that came of it."""
        await self._switch.change(Wish("unload"))
        await self.state(service, exchange)

    async def sleep(self, service: Service, exchange: Exchange) -> None:
        """Finish what runs, then let go of the cache, at level 2 of the weights too."""
        level = parse_qs(exchange.request.query).get("level", ["1"])[-1]
        if level not in ("1", "2"):
            raise invalid(f"`level` must be 1 or 2, was {level[:20]!r}", "level")
        await self._switch.change(Wish("sleep", level=cast(Level, int(level))))
        await self.state(service, exchange)

    async def wake_up(self, service: Service, exchange: Exchange) -> None:
        """Be as before the sleep; answered when a token was made."""
        await self._switch.change(Wish("wake_up"))
        await self.state(service, exchange)

    async def is_sleeping(self, service: Service, exchange: Exchange) -> None:
        """Whether there is something to wake."""
        level = self._switch.level
        exchange.send(200, _json({"is_sleeping": level > 0, "level": level}))

    async def drain(self, service: Service, exchange: Exchange) -> None:
        """Take nothing new from now on; how much still runs."""
        if self._switch.busy:
            raise self._switch.conflict("drain")
        if service.lifecycle.phase not in ("Standby", "Asleep"):
            service.lifecycle.drain()
        body = {"phase": service.lifecycle.phase, "running": service.engine.num_active}
        exchange.send(202, _json(body))

    async def state(self, service: Service, exchange: Exchange) -> None:
        """Where the pod stands."""
        life = service.lifecycle
        body = {
            "phase": life.phase,
            "model": service.config.model_name,
            "deployment": service.config.deployment,
            "path": life.loaded.path if life.loaded else "",
            "seconds": life.phase_seconds,
            "running": service.engine.num_active,
            "sleepLevel": self._switch.level,
            "residents": {
                one.folder: {"bytes": one.num_bytes, "error": one.error}
                for one in life.residents.values()
            },
        }
        exchange.send(200, _json(body))
