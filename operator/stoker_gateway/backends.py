"""Keeps the fleet true: deployments and pods as watched, announced and probed.

Knows how the three sources of news about a pod fit together: an announcement routes at once, the
watch knows who exists and who leaves, a probe asks those that nobody has heard from.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from stoker_api import names
from stoker_api.demand import Announcement
from stoker_gateway.demand import DemandPublisher
from stoker_gateway.errors import UpstreamError
from stoker_gateway.fleet import Fleet
from stoker_gateway.http.fetch import fetch
from stoker_gateway.http.upstream import Pool, Pools
from stoker_gateway.lane import Lane
from stoker_gateway.metrics import Metrics
from stoker_gateway.routing import Pod
from stoker_gateway.target import read_target
from stoker_gateway.watch import Cluster, Item, Kind, Meta, Scope, follow

log = logging.getLogger(__name__)

CONFIRM_S = 30.0
"""A pod that announced itself and that no watch has seen for so long is asked whether it exists."""
PROBE = b"GET /ready\r\n"
KINDS: tuple[Kind, ...] = ("deployments", "pods")


class _Condition(msgspec.Struct):
    type: str = ""
    status: str = ""


class _PodStatus(msgspec.Struct, rename="camel"):
    pod_ip: str = msgspec.field(default="", name="podIP")
    phase: str = ""
    conditions: list[_Condition] = []


class _PodObject(msgspec.Struct):
    metadata: Meta
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)


class _Readiness(msgspec.Struct):
    """What a runtime's `/ready` says."""

    slots: int = 0
    phase: str = ""
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class ProbeTimes:
    """How often a pod that is not ready is asked."""

    first_pause_s: float
    longest_pause_s: float
    connect_timeout_s: float


class Backends:
    """What exists, for one worker."""

    def __init__(
        self,
        fleet: Fleet,
        pools: Pools,
        demand: DemandPublisher,
        metrics: Metrics,
        probe: ProbeTimes,
    ) -> None:
        self._fleet = fleet
        self._pools = pools
        self._demand = demand
        self._metrics = metrics
        self._probe_times = probe
        self._seen: set[tuple[str, str]] = set()
        self._probes: dict[Pod, asyncio.Task[None]] = {}
        self._confirms: set[asyncio.Task[None]] = set()
        self._unsynced: set[Scope] = set()
        self._started = False
        self.pump: Callable[[Lane], None] = lambda lane: None
        """Called when a lane's pods or target changed."""
        self.on_forget: Callable[[Lane], None] = lambda lane: None
        """Called when a lane is gone."""

    @property
    def synced(self) -> bool:
        """Whether everything was listed once."""
        return self._started and not self._unsynced

    async def run(self, cluster: Cluster, namespaces: list[str]) -> None:
        """Follow the API server until cancelled."""
        scopes = [Scope(kind, name) for kind in KINDS for name in namespaces or [""]]
        self._unsynced = set(scopes)
        self._started = True
        async with asyncio.TaskGroup() as group:
            for scope in scopes:
                group.create_task(follow(cluster, scope, self))

    def close(self) -> None:
        """Probe no more."""
        for task in [*self._probes.values(), *self._confirms]:
            task.cancel()
        self._probes.clear()

    # what the watch says

    def replace(self, scope: Scope, items: list[bytes]) -> None:
        """A full list: who is not in it is gone."""
        self._metrics.relists.labels(scope.kind).inc()
        metas = [msgspec.json.decode(item, type=Item).metadata for item in items]
        if scope.kind == "pods":
            listed = {(self._key(meta), meta.name) for meta in metas}
            for key, name in [pod for pod in self._seen - listed if _within(pod[0], scope)]:
                self._remove_pod(key, name)
        else:
            keys = {meta.key for meta in metas}
            known = [target.key for target in self._fleet.directory]
            for key in [key for key in known if key not in keys and _within(key, scope)]:
                self._remove_deployment(key)
        for item in items:
            self.apply(scope, item, gone=False)
        self._unsynced.discard(scope)

    def apply(self, scope: Scope, item: bytes, gone: bool) -> None:
        """One object is new, changed or gone; one that cannot be read harms no other."""
        try:
            if scope.kind == "pods":
                self._on_pod(msgspec.json.decode(item, type=_PodObject), gone)
            else:
                self._on_deployment(item, msgspec.json.decode(item, type=Item).metadata.key, gone)
        except msgspec.ValidationError as error:
            log.warning("an object of %s is ignored: %s", scope.kind, error)

    def _on_deployment(self, item: bytes, key: str, gone: bool) -> None:
        if gone:
            self._remove_deployment(key)
            return
        now = time.monotonic()
        before = self._fleet.get(key)
        doomed_before = before.target.doom if before else ""
        lane = self._fleet.put(read_target(item, key), now)
        lane.fail_hopeless(now, "" if doomed_before else lane.target.doom)
        self.pump(lane)

    def _remove_deployment(self, key: str) -> None:
        lane = self._fleet.remove(key, time.monotonic())
        if lane:
            self.pump(lane)
        self._forget_empty()

    def _forget_empty(self) -> None:
        for lane in self._fleet.forget_empty():
            self._demand.forget(lane)
            self._metrics.forget(lane)
            self.on_forget(lane)

    @staticmethod
    def _key(meta: Meta) -> str:
        return f"{meta.namespace}/{(meta.labels or {}).get(names.LABEL_DEPLOYMENT, '')}"

    def _on_pod(self, item: _PodObject, gone: bool) -> None:
        meta, key = item.metadata, self._key(item.metadata)
        if gone or item.status.phase in ("Succeeded", "Failed"):
            self._remove_pod(key, meta.name)
            return
        now = time.monotonic()
        self._seen.add((key, meta.name))
        lane = self._fleet.lane(key, now)
        pod = lane.routes.add(meta.name, now)
        if meta.deletion_timestamp:
            self._leave(lane, pod)
        elif not pod.ready and not pod.leaving:
            self._consider(lane, pod, item)

    def _consider(self, lane: Lane, pod: Pod, item: _PodObject) -> None:
        """Ask a pod that is not routed; at once when somebody says that it is ready."""
        announced = (item.metadata.annotations or {}).get(names.ANNOTATION_ADDRESS, "")
        own = f"{_bracket(item.status.pod_ip)}:{names.RUNTIME_PORT}" if item.status.pod_ip else ""
        pod.address = pod.address or announced or own
        ready = any(c.type == "Ready" and c.status == "True" for c in item.status.conditions)
        if pod.address and not pod.failure:
            self._probe(lane, pod, hurry=ready or bool(announced))

    def _remove_pod(self, key: str, name: str) -> None:
        self._seen.discard((key, name))
        self._demand.forget_pod(key, name)
        lane = self._fleet.get(key)
        pod = lane.routes.remove(name) if lane else None
        if lane is None or pod is None:
            return
        pod.leaving = True
        self._stop_probe(pod)
        self._pools.drop(pod.address)
        self.pump(lane)
        self._forget_empty()

    def _leave(self, lane: Lane, pod: Pod) -> None:
        pod.leaving = True
        self._stop_probe(pod)
        self.pump(lane)

    # what pods say

    def announce(self, announcement: Announcement) -> None:
        """A pod speaks for itself: believed at once."""
        now = time.monotonic()
        lane = self._fleet.lane(announcement.key, now)
        pod = lane.routes.get(announcement.pod)
        if pod is None:
            pod = lane.routes.add(announcement.pod, now)
            self._confirm_later(announcement.key, announcement.pod)
        self._metrics.announcements.labels(lane.target.key, announcement.phase).inc()
        match announcement.phase:
            case "Ready":
                self._ready(lane, pod, announcement.address, announcement.slots)
            case "Failed":
                self._failed(lane, pod, announcement.reason, announcement.message)
            case "Draining" if pod.address in ("", announcement.address):
                self._leave(lane, pod)
            case "Starting" | "Loading":
                pod.ready = False
                pod.address = announcement.address
                self._probe(lane, pod, hurry=False)

    def _confirm_later(self, key: str, name: str) -> None:
        task = asyncio.get_running_loop().create_task(self._confirm(key, name))
        self._confirms.add(task)
        task.add_done_callback(self._confirms.discard)

    async def _confirm(self, key: str, name: str) -> None:
        """Until a watch sees it: while the API server is away, its own answer is proof enough."""
        while True:
            await asyncio.sleep(CONFIRM_S)
            lane = self._fleet.get(key)
            pod = lane.routes.get(name) if lane else None
            if pod is None or (key, name) in self._seen:
                return
            status, _ = await self._readiness(pod)
            if not status:
                self._remove_pod(key, name)
                return

    def _ready(self, lane: Lane, pod: Pod, address: str, slots: int) -> None:
        self._stop_probe(pod)
        pod.address = address
        pod.slots = max(slots, 1)
        pod.failure = None
        pod.ready = True
        self.pump(lane)

    def _failed(self, lane: Lane, pod: Pod, reason: str, message: str) -> None:
        self._stop_probe(pod)
        pod.ready = False
        pod.failure = (reason, message)
        lane.fail_hopeless(time.monotonic())
        self.pump(lane)

    def on_trouble(self, lane: Lane, pod: Pod, trouble: str) -> None:
        """A pod did not take a request: nothing more goes there until it says that it is ready."""
        if trouble == "draining":
            self._leave(lane, pod)
        elif not pod.leaving:
            self._probe(lane, pod, hurry=False)

    # probes

    def _probe(self, lane: Lane, pod: Pod, hurry: bool) -> None:
        if pod in self._probes:
            if not hurry:
                return
            self._stop_probe(pod)
        task = asyncio.get_running_loop().create_task(self._ask(lane, pod, hurry))
        self._probes[pod] = task

    def _stop_probe(self, pod: Pod) -> None:
        task = self._probes.pop(pod, None)
        if task and task is not asyncio.current_task():
            task.cancel()

    async def _ask(self, lane: Lane, pod: Pod, hurry: bool) -> None:
        """Ask until it is ready, has failed, or leaves (the task is cancelled then)."""
        times = self._probe_times
        pause_s = 0.0 if hurry else times.first_pause_s
        while True:
            await asyncio.sleep(pause_s)
            status, answer = await self._readiness(pod)
            if status == 200:
                self._ready(lane, pod, pod.address, answer.slots)
                return
            if answer.phase == "Failed":
                self._failed(lane, pod, answer.reason, answer.message)
                return
            pause_s = min(max(pause_s * 2, times.first_pause_s), times.longest_pause_s)

    async def _readiness(self, pod: Pod) -> tuple[int, _Readiness]:
        try:
            pool = Pool(pod.address, self._probe_times.connect_timeout_s)
            status, body = await fetch(pool, PROBE, b"", self._probe_times.longest_pause_s)
            return status, msgspec.json.decode(body, type=_Readiness)
        except (UpstreamError, msgspec.MsgspecError, ValueError):
            return 0, _Readiness()


def _within(key: str, scope: Scope) -> bool:
    return not scope.namespace or key.partition("/")[0] == scope.namespace


def _bracket(ip: str) -> str:
    return f"[{ip}]" if ":" in ip else ip
