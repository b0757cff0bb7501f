"""What the operator remembers of each deployment between two looks; all of it can be lost.

Knows how it starts anew from the objects themselves; does not know decisions. After a restart the
cluster says how many replicas there are and what failed, and gateways say the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from stoker_api.demand import Announcement
from stoker_api.status import ColdStart, LLMDeploymentStatus
from stoker_operator.decide.autoscaler import ScaleState
from stoker_operator.decide.coldstart import ColdStartHistory, recall_cold_starts
from stoker_operator.decide.event import Note
from stoker_operator.decide.failure import FailureMemory, recall_failures
from stoker_operator.decide.observed import Failure, Observed
from stoker_operator.decide.speed import SpeedHistory, read_report, recall_speed

REJECTED_RETRY_S = 10.0
"""How long to wait after the API server refused a pod."""


@dataclass(slots=True)
class Memory:
    """One deployment's memory."""

    uid: str
    replicas: int
    """Replicas wanted by the last decision."""
    failures: FailureMemory
    history: ColdStartHistory
    scale: ScaleState = field(default_factory=ScaleState)
    rejection: Failure | None = None
    rejected_until: float = 0.0
    rejected_generation: int = 0
    asking_since: float = 0.0
    """Since when the answer of a standby is waited for; 0: it is not."""
    distrusted_until: float = 0.0
    """Until when replicas are started fresh, because a standby failed."""
    written_at: float = 0.0
    """When the status was last written."""
    quiet_since: float | None = None
    """Since when a wake is not disturbed."""
    quiet_until: float | None = None
    """Until when."""
    draft: LLMDeploymentStatus | None = None
    """The status that waits until a wake is over."""
    notes: tuple[Note, ...] = ()
    """Events that wait with it."""
    shared: set[str] = field(default_factory=set)
    """Adopted pods that the key of their pool stays for, by uid."""
    timed: set[str] = field(default_factory=set)
    """Pods whose cold start has been recorded."""
    last_cold_start: ColdStart | None = None
    speed: SpeedHistory = field(default_factory=SpeedHistory)
    reported: dict[str, int] = field(default_factory=dict)
    """Steps of each pod at its last report of speed, by uid."""

    def is_quiet(self, now: float) -> bool:
        """Whether only what requests wait for is written."""
        return self.quiet_until is not None and now < self.quiet_until

    def hear_speeds(
        self, observed: Observed, announced: Callable[[str], Announcement | None]
    ) -> None:
        """Take in what runtimes of the wanted template report of their speed, each report once."""
        self.speed = self.speed.of(observed.template)
        heard = {}
        for pod in observed.live:
            said = announced(pod.uid) if pod.template == observed.template else None
            report = read_report(said) if said is not None else None
            if said is None or report is None:
                continue
            if self.reported.get(pod.uid) != said.steps:
                self.speed = self.speed.with_report(report)
            heard[pod.uid] = said.steps
        self.reported = heard


def recall(uid: str, status: LLMDeploymentStatus, observed: Observed) -> Memory:
    """A memory for a deployment that this process has not seen before."""
    return Memory(
        uid=uid,
        replicas=_recall_replicas(status, observed),
        failures=recall_failures(status, observed.generation),
        history=recall_cold_starts(status.cold_starts or (), status.last_cold_start),
        speed=recall_speed(status.speed),
    )


def _recall_replicas(status: LLMDeploymentStatus, observed: Observed) -> int:
    """As many as there are; in the midst of a rollout one of them may be extra."""
    live = observed.live
    current = sum(pod.template == observed.template for pod in live)
    if current in (0, len(live)):
        return len(live)
    desired = status.scaling.desired if status.scaling is not None else len(live)
    return max(current, len(live) - current, min(desired, len(live)))
