"""One operator process, put together: what watches, what listens, what leads, what reconciles.

Knows every room of the package and the order in which things start and stop; decides nothing. Run
by `__main__`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Coroutine
from typing import Any

from prometheus_client import REGISTRY

from stoker_api import names
from stoker_api.demand import Announcement
from stoker_api.tokens import derive_token
from stoker_operator.build.frame import PodSettings
from stoker_operator.build.network_policy import Release
from stoker_operator.cluster.admin import HttpAdminPorts
from stoker_operator.cluster.client import KubeCluster, connect
from stoker_operator.cluster.demand import DemandListener, DemandStreams
from stoker_operator.cluster.herald import Herald
from stoker_operator.cluster.lease import Lease
from stoker_operator.cluster.ledger import DemandLedger
from stoker_operator.cluster.resync import Resync
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.errors import ClusterError
from stoker_operator.handlers.children import Children
from stoker_operator.handlers.dashboard import Dashboard
from stoker_operator.handlers.deployment import DeploymentReconciler, World
from stoker_operator.handlers.orders import Orders
from stoker_operator.handlers.pools import Pools
from stoker_operator.handlers.startup import Intake, follow
from stoker_operator.handlers.warmpool import WarmPoolReconciler
from stoker_operator.handlers.workqueue import WorkQueue
from stoker_operator.health import serve_health, serve_metrics
from stoker_operator.settings import Settings

logger = logging.getLogger(__name__)

STUCK_S = 30.0
"""A lease loop that has not come round for this long means that the process should be restarted."""
STOP_S = 3.0
"""How long kopf may take to leave."""


class Process:
    """The operator."""

    def __init__(self, settings: Settings, cluster: KubeCluster, lease: Lease) -> None:
        self._settings = settings
        self._cluster = cluster
        self._lease = lease
        self._snapshot = Snapshot()
        self._ledger = DemandLedger(time.time(), settings.demand_lease_s)
        self._stop = asyncio.Event()
        key = settings.internal_key
        host = f"{settings.gateway_host}.{settings.cluster_domain}"
        children = Children(cluster, self._snapshot, key, host, _closed_to(settings))
        self._ports = HttpAdminPorts(lambda: lease.leads)
        pools = Pools(self._snapshot, Orders(self._ports), key)
        self._herald = Herald(self._ports, self._ledger, self._snapshot, pools.token)
        self._world = World(
            cluster=cluster,
            snapshot=self._snapshot,
            ledger=self._ledger,
            children=children,
            pod_settings=_pod_settings(settings),
            gateway_url=settings.gateway_url,
            pools=pools,
        )
        self._reconciler = DeploymentReconciler(self._world)
        self._deployments = WorkQueue(self._when_leading(self._reconciler.reconcile))
        pool_reconciler = WarmPoolReconciler(
            cluster, self._snapshot, pools, children, lambda: self._world.pod_settings
        )
        self._pools = WorkQueue(self._when_leading(pool_reconciler.reconcile))
        pools.touch_pool, pools.touch_deployment = self._pools.add, self._deployments.hurry
        self._dashboard = Dashboard(self._snapshot, self._ledger, lambda: self._lease.leads)
        REGISTRY.register(self._dashboard)
        self._intake = Intake(self._snapshot, children, self._deployments, self._pools)
        self._resync = Resync(
            cluster, self._snapshot, tuple(settings.namespace_list or [""]), self._intake.touch
        )

    async def run(self) -> None:
        """Work until told to stop, or until something essential fails."""
        settings = self._settings
        runners = [
            await serve_health(settings.health_port, self._is_alive, self._is_ready),
            await serve_metrics(settings.metrics_port, self._arrivals),
        ]
        self._catch_signals()
        try:
            await self._until_stopped(self._start_up())
            if not self._stop.is_set():
                await self._until_stopped(*self._loops())
        finally:
            await self._leave()
            for runner in runners:
                await runner.cleanup()

    def _arrivals(self, key: str) -> list[tuple[int, ...]]:
        return self._ledger.arrivals.rows(key, time.time())

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _start_up(self) -> None:
        await self._resync.first()
        await self._find_gateway()

    def _loops(self) -> list[Coroutine[Any, Any, None]]:
        """Everything that runs for as long as the process does."""
        key = self._settings.internal_key
        token = derive_token(key, names.DEMAND_PURPOSE) if key is not None else None
        listener = DemandListener(self._on_demand, self._on_announce, self._intake.touch_all)
        streams = DemandStreams(self._ledger, listener, token, _gateway_selector(self._settings))
        return [
            self._run_kopf(),
            streams.run(self._cluster, self._settings.namespace),
            self._lease.run(self._cluster, self._on_lead),
            self._resync.forever(self._settings.resync_s),
            self._keep_finding_gateway(),
        ]

    async def _until_stopped(self, *work: Coroutine[Any, Any, None]) -> None:
        """Until the first piece of work ends, or a signal comes; errors are passed on."""
        tasks = [asyncio.create_task(each) for each in work]
        stop = asyncio.create_task(self._stop.wait())
        done, _ = await asyncio.wait([*tasks, stop], return_when=asyncio.FIRST_COMPLETED)
        if self._stop.is_set():
            await self._stand_down()
        for task in (*tasks, stop):
            task.cancel()
        await asyncio.wait([*tasks, stop], timeout=STOP_S)
        for task in done - {stop}:
            task.result()

    async def _stand_down(self) -> None:
        """Stop writing, and let a standby take over at once."""
        await self._deployments.stop()
        await self._pools.stop()
        await self._world.pools.orders.stop()
        try:
            await self._lease.release(self._cluster)
        except ClusterError as error:
            logger.warning("lease not released: %s", error)

    async def _leave(self) -> None:
        await self._stand_down()
        await self._ports.close()
        await self._cluster.close()

    async def _run_kopf(self) -> None:
        """Its own signal handlers are replaced by ours as soon as it has put them there."""
        await follow(self._intake, self._settings.namespace_list, self._catch_signals)

    async def _find_gateway(self) -> None:
        """The address that pods announce themselves to, numeric where there is one."""
        settings = self._settings
        try:
            service = await self._cluster.read(
                "Service", settings.namespace, settings.gateway_internal_service
            )
        except ClusterError as error:
            logger.warning("gateway's internal Service: %s", error)
            return
        address = service["spec"].get("clusterIP", "None")
        if address != "None":
            self._world.pod_settings = _pod_settings(settings, address)

    async def _keep_finding_gateway(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_s)
            await self._find_gateway()

    def _when_leading(self, reconcile: Any) -> Any:
        async def guarded(key: str) -> float | None:
            if not self._lease.leads or not self._snapshot.synced:
                return None
            wake_at: float | None = await reconcile(key)
            self._dashboard.look(key)
            return wake_at

        return guarded

    def _on_lead(self) -> None:
        self._reconciler.reset()
        self._dashboard.reset()
        self._world.pools.reset()
        for key in self._ledger.held():
            self._deployments.hurry(key)
        self._intake.touch_all()

    def _on_demand(self, key: str) -> None:
        self._reconciler.note_demand(key)
        self._herald.point(key)
        self._deployments.hurry(key)

    def _on_announce(self, announcement: Announcement) -> None:
        if self._snapshot.announce(announcement):
            self._herald.pass_on(announcement)
            self._deployments.hurry(announcement.key)

    def _is_alive(self) -> bool:
        return not self._snapshot.synced or time.monotonic() < self._lease.checked_at + STUCK_S

    def _is_ready(self) -> bool:
        return self._snapshot.synced


async def run_process(settings: Settings) -> None:
    """Connect and work until a signal comes."""
    lease = Lease(
        settings.namespace, settings.lease_name, settings.pod_name, settings.lease_duration_s
    )
    cluster = await connect(lambda: lease.leads)
    await Process(settings, cluster, lease).run()


def _pod_settings(settings: Settings, address: str = "") -> PodSettings:
    name = f"{settings.gateway_internal_service}.{settings.namespace}.svc"
    host = f"[{address}]" if ":" in address else address or name
    return PodSettings(
        image_cpu=settings.runtime_image_cpu,
        image_gpu=settings.runtime_image_gpu,
        pull_policy=settings.runtime_image_pull_policy,
        drain_deadline_s=settings.drain_deadline_s,
        announce_url=f"http://{host}:{names.INTERNAL_PORT}{names.ANNOUNCE_PATH}",
        with_token=settings.internal_key_file is not None,
    )


def _closed_to(settings: Settings) -> Release | None:
    return Release(settings.namespace, settings.release) if settings.network_policies else None


def _gateway_selector(settings: Settings) -> str:
    component = f"{names.LABEL_COMPONENT}=gateway"
    release = f",app.kubernetes.io/instance={settings.release}" if settings.release else ""
    return component + release
