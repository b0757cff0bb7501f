"""Which pod takes the next request: the least loaded of those that have a free slot.

Knows pods as names, addresses, slots and what runs on them; no sockets, no clock. `backends` says
what pods are like, `lane` takes and gives back slots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

FIRST_PAUSE_S = 0.01
LONGEST_PAUSE_S = 0.25
HOPELESS = frozenset({"CheckpointNotFound", "CheckpointBroken", "ArchitectureUnsupported"})
"""Reasons of a failed pod that every further pod of the same spec would meet."""


@dataclass(slots=True, eq=False)
class Pod:
    """One runtime pod as this worker sees it."""

    name: str
    address: str = ""
    """`ip:port`; empty until known."""
    slots: int = 0
    """Requests it runs at once."""
    running: int = 0
    """Requests of this worker that run on it."""
    ready: bool = False
    """It said that it answers."""
    leaving: bool = False
    """Marked for deletion, or draining: it gets nothing new, whatever else it says."""
    failure: tuple[str, str] | None = None
    """Reason and message, when it said that it cannot serve."""
    started_at: float = 0
    """When this worker first heard of it."""
    paused_until: float = 0
    """It was full although slots looked free: other gateways fill it as well."""
    pause_s: float = FIRST_PAUSE_S

    @property
    def routed(self) -> bool:
        """Whether requests may go there."""
        return self.ready and not self.leaving and bool(self.address)

    def num_free(self, now: float) -> int:
        """Slots that this worker may fill now."""
        if not self.routed or self.paused_until > now:
            return 0
        return max(self.slots - self.running, 0)

    @property
    def load(self) -> float:
        """Share of its slots that this worker fills."""
        return self.running / max(self.slots, 1)


class Routes:
    """The pods of one deployment."""

    def __init__(self) -> None:
        self._pods: dict[str, Pod] = {}

    def __iter__(self) -> Iterator[Pod]:
        return iter(self._pods.values())

    def get(self, name: str) -> Pod | None:
        """A pod by name."""
        return self._pods.get(name)

    def add(self, name: str, now: float) -> Pod:
        """The pod of that name, made if it is new."""
        pod = self._pods.get(name)
        if pod is None:
            pod = self._pods[name] = Pod(name, started_at=now)
        return pod

    def remove(self, name: str) -> Pod | None:
        """Forget a pod that is gone."""
        return self._pods.pop(name, None)

    @property
    def num_routed(self) -> int:
        """Pods that requests may go to."""
        return sum(pod.routed for pod in self)

    @property
    def running(self) -> dict[str, int]:
        """Requests on each pod that has some."""
        return {pod.name: pod.running for pod in self if pod.running}

    def num_free(self, now: float) -> int:
        """Free slots of all pods."""
        return sum(pod.num_free(now) for pod in self)

    def take(self, now: float) -> Pod | None:
        """Occupy a slot of the least loaded pod."""
        pod = _least_loaded(pod for pod in self if pod.num_free(now))
        if pod:
            pod.running += 1
        return pod

    @staticmethod
    def give_back(pod: Pod) -> None:
        """A request on the pod ended."""
        assert pod.running > 0, f"{pod.name} gave back a slot that nobody took"
        pod.running -= 1
        pod.paused_until = 0

    @staticmethod
    def answered(pod: Pod) -> None:
        """The pod took a request: the next pause is a short one again."""
        pod.pause_s = FIRST_PAUSE_S

    @staticmethod
    def full(pod: Pod, now: float) -> None:
        """The pod was full: ask it again after a pause that doubles."""
        pod.paused_until = now + pod.pause_s
        pod.pause_s = min(pod.pause_s * 2, LONGEST_PAUSE_S)

    def next_resume(self, now: float) -> float | None:
        """When the next paused pod may be asked again."""
        paused = [pod.paused_until for pod in self if pod.routed and pod.paused_until > now]
        return min(paused, default=None)

    def oldest_start_s(self, now: float) -> float:
        """For how long the pod that has been starting longest is known; 0 when none starts."""
        starting = (pod for pod in self if not (pod.slots or pod.leaving or pod.failure))
        return max((now - pod.started_at for pod in starting), default=0.0)

    @property
    def failure(self) -> tuple[str, str] | None:
        """Why this deployment cannot be served: every pod that could come failed for good."""
        staying = [pod for pod in self if not pod.leaving]
        failures = [pod.failure for pod in staying if pod.failure]
        if not failures or len(failures) < len(staying):
            return None
        return failures[0] if all(reason in HOPELESS for reason, _ in failures) else None


def _least_loaded(pods: Iterable[Pod]) -> Pod | None:
    return min(pods, key=lambda pod: (pod.load, pod.running, pod.name), default=None)
