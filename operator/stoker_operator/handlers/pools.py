"""What deployments and pools know of each other: standbys, wakes, sizes, and who is taking which.

Knows the snapshot, the orders to pods and the keys of admin ports; decides nothing. Shared by the
reconcilers of both, and forgotten by a restart, except what a pool's status keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from stoker_api import names
from stoker_api.status import PoolSizing, WarmPoolStatus
from stoker_api.tokens import derive_token
from stoker_operator.cluster.admin import Call
from stoker_operator.cluster.kinds import Manifest, parse_instant
from stoker_operator.cluster.pods import ordered_at
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.cluster.standby import (
    SaidState,
    admin_address,
    count_preload,
    count_restarts,
    is_standby,
    observe_standby,
    pool_of,
)
from stoker_operator.decide.failure import FailureMemory
from stoker_operator.decide.observed import Failure
from stoker_operator.decide.pool import Standby
from stoker_operator.decide.pool_size import WakeHistory, recall_wakes
from stoker_operator.decide.quiet import USUAL, Quiet
from stoker_operator.handlers.orders import Order, Orders, Outcome

_ASK = "/state"


@dataclass(slots=True)
class PoolMemory:
    """One pool's memory."""

    uid: str
    wakes: WakeHistory
    sizing: PoolSizing = field(default_factory=PoolSizing)
    failures: FailureMemory = field(default_factory=FailureMemory)
    template: str = ""
    """Hash of what standbys are made from now."""
    made_at: dict[str, float] = field(default_factory=dict)
    """When standbys were made that have not settled yet, by uid."""
    quiet_since: float | None = None
    """Since when a wake of its pods is not disturbed."""
    guarded: bool = False
    """Its Secret and NetworkPolicy were written by this process."""
    rejection: Failure | None = None
    rejected_until: float = 0.0


class Pools:
    """All pools."""

    def __init__(
        self, snapshot: Snapshot, orders: Orders, key: bytes | None, quiet: Quiet = USUAL
    ) -> None:
        self.orders = orders
        self.taking: set[str] = set()
        """Standbys that a deployment is about to adopt."""
        self.touch_pool: Callable[[str], None] = lambda key: None
        self.touch_deployment: Callable[[str], None] = lambda key: None
        self._snapshot = snapshot
        self._key = key
        self._quiet = quiet
        self._memories: dict[str, PoolMemory] = {}

    def recall(self, key: str, uid: str, status: WarmPoolStatus, now: float) -> PoolMemory:
        """The memory of a pool, begun from its status when this process has none."""
        memory = self._memories.get(key)
        if memory is None or memory.uid != uid:
            kept = status.wakes
            wakes = WakeHistory(now) if kept is None else recall_wakes(kept, parse_instant(kept.at))
            memory = PoolMemory(uid, wakes, status.sizing or PoolSizing())
            self._memories[key] = memory
        return memory

    def known(self, key: str) -> PoolMemory | None:
        """The memory of a pool that is there."""
        return self._memories.get(key)

    def forget(self, key: str) -> None:
        """The pool is gone."""
        self._memories.pop(key, None)

    def reset(self) -> None:
        """Start from the objects alone: another process may have acted meanwhile."""
        self._memories.clear()

    def token(self, purpose: str) -> str | None:
        """The bearer token of one purpose; None where pods take any order."""
        return None if self._key is None else derive_token(self._key, purpose)

    def waiting(self, key: str) -> list[Manifest]:
        """The pods of a pool that serve nobody."""
        return [pod for pod in self._snapshot.pool_pods(key) if is_standby(pod)]

    def standbys(self, key: str) -> list[Standby]:
        """The same as facts; those that are being taken are left out."""
        pods = (pod for pod in self.waiting(key) if pod["metadata"]["uid"] not in self.taking)
        return [observe_standby(pod, self.said(pod), self._runs(pod)) for pod in pods]

    def said(self, pod: Manifest) -> SaidState | None:
        """What a standby said of itself, if its process is still the one that said it."""
        outcome = self.orders.ensure(self._question(pod), self._teller(pod)) if _can(pod) else None
        return None if outcome is None else outcome.state

    @staticmethod
    def _runs(pod: Manifest) -> bool:
        """Whether its process has been up for long enough to answer at once."""
        statuses = pod.get("status", {}).get("containerStatuses") or ()
        return any("running" in status.get("state", {}) for status in statuses)

    def quiet(
        self, pods: Sequence[Manifest], since: float | None, now: float
    ) -> tuple[float | None, float | None]:
        """Until when wakes of these pods are not to be disturbed, and since when they are not."""
        said = (self._snapshot.announced(pod["metadata"]["uid"]) for pod in pods)
        ready = (max(one.phases.values(), default=0.0) for one in said if one and one.is_ready)
        until = self._quiet.until(map(ordered_at, pods), ready, now)
        return self._quiet.begin_or_end(until, since, now)

    def order(self, pod: Manifest, path: str, body: str = "") -> Outcome | None:
        """See that a pod is told what to do; how that ended."""
        order = Order(pod["metadata"]["uid"], self._call(pod, path, body), count_restarts(pod))
        return self.orders.ensure(order, self._teller(pod))

    def _question(self, pod: Manifest) -> Order:
        uid = pod["metadata"]["uid"]
        return Order(uid, self._call(pod, _ASK), count_restarts(pod), count_preload(pod))

    def _call(self, pod: Manifest, path: str, body: str = "") -> Call:
        token = self.token(names.pool_purpose(*pool_of(pod).split("/", 1)))
        return Call(admin_address(pod), path, token, body)

    def _teller(self, pod: Manifest) -> Callable[[], None]:
        deployment = pod["metadata"].get("labels", {}).get(names.LABEL_DEPLOYMENT)
        if deployment:
            key = f"{pod['metadata']['namespace']}/{deployment}"
            return partial(self._tell, self.touch_deployment, key)
        return partial(self._tell, self.touch_pool, pool_of(pod))

    @staticmethod
    def _tell(touch: Callable[[str], None], key: str) -> None:
        touch(key)


def _can(pod: Manifest) -> bool:
    """Whether there is somebody to ask."""
    return bool(admin_address(pod)) and pod.get("status", {}).get("phase") != "Failed"
