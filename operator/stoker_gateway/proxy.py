"""Carries one request through: hold, send to a pod, stream back, try elsewhere when that is safe.

Knows the rule of retries: as long as no byte of the answer came, the request goes back to the head
of its queue; afterwards never. Does not know why pods come and go (`backends` does).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from stoker_gateway import errors
from stoker_gateway.demand import DemandPublisher
from stoker_gateway.errors import UpstreamError
from stoker_gateway.http.reply import Reply
from stoker_gateway.http.request import Request
from stoker_gateway.http.upstream import Pools
from stoker_gateway.lane import Lane
from stoker_gateway.metrics import Metrics
from stoker_gateway.queue import Held
from stoker_gateway.relay import SSE, Relay
from stoker_gateway.routing import Pod

MAX_DEATHS = 3
"""A request on which so many pods died is not given to a fourth."""
WAITING = b": waiting\n\n"

Trouble = Literal["full", "draining", "loading", "connect", "closed"]


@dataclass(slots=True)
class Call:
    """One admitted request."""

    request: Request
    lane: Lane
    body: bytes
    stream: bool


class Proxy:
    """The data path of one worker."""

    def __init__(
        self, pools: Pools, demand: DemandPublisher, metrics: Metrics, heartbeat_after_s: float
    ) -> None:
        self._pools = pools
        self._demand = demand
        self._metrics = metrics
        self._heartbeat_after_s = heartbeat_after_s
        self._timers: dict[Lane, asyncio.TimerHandle] = {}
        self.authorization_of: Callable[[Lane], bytes] = lambda lane: b""
        """The header line (from its line break on) that a deployment's pods accept."""
        self.on_trouble: Callable[[Lane, Pod, Trouble], None] = lambda lane, pod, trouble: None
        """Told when a pod did not take a request."""

    async def serve(self, call: Call, reply: Reply) -> None:
        """Answer a request. Raises `ApiError`; cancelled when the client is gone."""
        lane = call.lane
        try:
            held = lane.enter(len(call.body), time.monotonic())
        finally:
            self._demand.touch(lane)
        if held.pod is None:
            self._arm(lane, held.deadline)
            self._arm_resume(lane)
        try:
            while not await self._attempt(call, held, await self._slot(call, held, reply), reply):
                self.pump(lane)
        finally:
            if reply.gone:
                self._metrics.left(lane, held)
            lane.leave(held, time.monotonic())
            self.pump(lane)

    def pump(self, lane: Lane) -> None:
        """Something changed: hand out free slots, tell operators, look again when it is time."""
        if len(lane.queue):
            lane.release(time.monotonic())
            self._arm_resume(lane)
        self._demand.touch(lane)

    def _arm_resume(self, lane: Lane) -> None:
        """Look again when a full pod's pause is over: nothing else may happen until then."""
        resume_at = lane.routes.next_resume(time.monotonic()) if len(lane.queue) else None
        if resume_at:
            self._arm(lane, resume_at)

    def forget(self, lane: Lane) -> None:
        """The lane is gone."""
        timer = self._timers.pop(lane, None)
        if timer:
            timer.cancel()

    def _arm(self, lane: Lane, at: float) -> None:
        """See to the lane at an instant; an earlier appointment serves as well."""
        loop = asyncio.get_running_loop()
        delay_s = max(at - time.monotonic(), 0) + 0.001
        timer = self._timers.get(lane)
        if timer:
            if timer.when() <= loop.time() + delay_s:
                return
            timer.cancel()
        self._timers[lane] = loop.call_later(delay_s, self._see_to, lane)

    def _see_to(self, lane: Lane) -> None:
        del self._timers[lane]
        lane.expire(time.monotonic())
        self.pump(lane)
        deadline = lane.queue.next_deadline
        if deadline:
            self._arm(lane, deadline)

    async def _slot(self, call: Call, held: Held, reply: Reply) -> Pod:
        """Wait for a slot. Raises `ApiError` when there will be none."""
        if held.pod:
            return held.pod
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not future.done():
                future.set_result(None)

        held.wake = wake
        while held.pod is None and held.error is None:
            await asyncio.wait([future], timeout=self._heartbeat_after_s if call.stream else None)
            if not future.done():
                self._heartbeat(reply, held)
        if held.error:
            raise held.error
        assert held.pod, "woken without a pod or an error"
        return held.pod

    @staticmethod
    def _heartbeat(reply: Reply, held: Held) -> None:
        if not reply.started:
            cold = [(b"x-stoker-cold-start", b"fresh")] if held.cold else []
            reply.start(200, [*SSE, *cold])
        if not reply.paused:
            reply.write(WAITING)

    async def _attempt(self, call: Call, held: Held, pod: Pod, reply: Reply) -> bool:
        """Let one pod answer; False when the request is back in the queue."""
        trouble = await self._exchange(call, held, pod, reply)
        if trouble is None:
            call.lane.routes.answered(pod)
            return True
        self._metrics.retried(call.lane, trouble)
        if trouble == "closed":
            held.deaths += 1
            if held.deaths >= MAX_DEATHS:
                raise errors.upstream_failed(call.lane.target.served_name, held.deaths)
        now = time.monotonic()
        call.lane.put_back(held, now)
        self._arm(call.lane, held.deadline)
        if trouble == "full":
            call.lane.routes.full(pod, now)
        else:
            pod.ready = False
            self.on_trouble(call.lane, pod, trouble)
        return False

    async def _exchange(self, call: Call, held: Held, pod: Pod, reply: Reply) -> Trouble | None:
        pool = self._pools[pod.address]
        data = self._head(call, pod) + call.body
        try:
            connection = pool.take_idle() or await pool.connect()
            relay = await self._send(data, Relay(reply, connection, held))
            if relay.lost_unanswered and connection.used:
                # It was only idle too long: the pod never saw the request.
                relay = await self._send(data, Relay(reply, await pool.connect(), held))
        except UpstreamError:
            return "connect"
        self._metrics.answered(call.lane, call.request, held, relay)
        if relay.answered:
            call.lane.tokens.end(held.num_bytes, relay.usage)
        return self._judge(call, relay, reply)

    @staticmethod
    async def _send(data: bytes, relay: Relay) -> Relay:
        """One request on one connection, to its end."""
        relay.connection.send(data, relay)
        try:
            await relay.finished
        finally:
            if not relay.over:  # else it may already carry somebody else's request
                relay.connection.abort()
        return relay

    @staticmethod
    def _judge(call: Call, relay: Relay, reply: Reply) -> Trouble | None:
        if relay.refused:
            return relay.refused
        if relay.denied:
            raise errors.upstream_denied(call.lane.target.served_name)
        if relay.lost_unanswered:
            return "closed"
        if relay.lost:
            reply.fail(errors.broken_off(call.lane.target.served_name))
        return None

    def _head(self, call: Call, pod: Pod) -> bytes:
        headers = call.request.headers
        accept = headers.get(b"accept", b"*/*")
        trace = headers.get(b"traceparent")
        return b"".join((
            b"POST ", call.request.origin_form, b" HTTP/1.1\r\nhost: ", pod.address.encode(),
            self.authorization_of(call.lane),
            b"\r\ncontent-type: application/json\r\naccept: ", accept,
            b"\r\nx-request-id: ", call.request.id.encode(),
            b"\r\ntraceparent: " + trace if trace else b"",
            b"\r\ncontent-length: %d\r\n\r\n" % len(call.body),
        ))  # fmt: skip
