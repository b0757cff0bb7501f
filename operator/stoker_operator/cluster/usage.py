"""The books of GPU time: how long each pod was in which state, in replica- and GPU-seconds.

Knows states and instants (passed in); does not know prices or who looks. A pod is counted from its
node on, for only then it holds GPUs, until it is gone, so that the sums of all states are the pods'
lifetimes. What a pod does is asked after every reconciliation; it is taken to have done it since.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from stoker_operator.cluster.kinds import Manifest
from stoker_operator.cluster.pods import shows_life
from stoker_operator.decide.observed import ObservedPod

State = Literal["loading", "busy", "idle", "warm"]
"""On the way to answering; answering; ready, or ending, without a request; standing by."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one pod does."""

    state: State
    gpus: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What one owner's pods have cost in one state."""

    owner: str
    """`namespace/name` of the deployment, or of the pool while a standby waits."""
    state: State
    replica_s: float
    gpu_s: float


@dataclass(slots=True)
class _Account:
    pods: dict[str, tuple[Use, float]] = field(default_factory=dict)
    """What each does, and since when it is not written down yet."""
    spent: dict[State, tuple[float, float]] = field(default_factory=dict)

    def settle(self, uid: str, now: float) -> None:
        """Write down what a pod did until now."""
        use, since = self.pods[uid]
        replica_s, gpu_s = self.spent.get(use.state, (0.0, 0.0))
        elapsed_s = max(0.0, now - since)
        self.spent[use.state] = (replica_s + elapsed_s, gpu_s + elapsed_s * use.gpus)
        self.pods[uid] = (use, max(now, since))


class UsageBook:
    """The accounts of all owners."""

    def __init__(self) -> None:
        self._accounts: dict[str, _Account] = defaultdict(_Account)
        self._owners: dict[str, str] = {}

    def look(self, owner: str, uses: Mapping[str, Use], now: float) -> None:
        """What an owner's pods do from now on, by uid; one that is missing is gone or another's."""
        account = self._accounts[owner]
        for uid in [uid for uid in account.pods if uid not in uses]:
            self._leave(uid, now)
        for uid, use in uses.items():
            if self._owners.get(uid, owner) != owner:
                self._leave(uid, now)
            if uid in account.pods:
                account.settle(uid, now)
            account.pods[uid] = (use, now)
            self._owners[uid] = owner

    def forget(self, owner: str) -> None:
        """The owner is gone, and so are its series."""
        account = self._accounts.pop(owner, _Account())
        for uid in account.pods:
            self._owners.pop(uid, None)

    def total(self, now: float) -> Iterator[Spent]:
        """Everything until now."""
        for owner, account in self._accounts.items():
            for uid in account.pods:
                account.settle(uid, now)
            for state, (replica_s, gpu_s) in account.spent.items():
                yield Spent(owner, state, replica_s, gpu_s)

    def _leave(self, uid: str, now: float) -> None:
        account = self._accounts[self._owners.pop(uid)]
        account.settle(uid, now)
        del account.pods[uid]


def observe_use(pod: Manifest, seen: ObservedPod) -> Use | None:
    """What a replica does; nothing while it has no node."""
    if not seen.scheduled:
        return None
    if seen.running:
        return Use("busy", count_gpus(pod))
    waits = seen.ready or seen.terminating or seen.failed
    return Use("idle" if waits else "loading", count_gpus(pod))


def observe_standby_use(pod: Manifest) -> Use | None:
    """What a standby does; nothing while it has no node."""
    if not pod["spec"].get("nodeName"):
        return None
    return Use("warm" if shows_life(pod, None) else "loading", count_gpus(pod))


def count_gpus(pod: Manifest) -> int:
    """Devices that a pod holds: resources of device plugins have a domain in their names."""
    limits = (one.get("resources", {}).get("limits", {}) for one in pod["spec"]["containers"])
    return sum(int(count) for each in limits for name, count in each.items() if "/" in name)
