"""Which standbys a deployment may have, which it takes first, and when a pod is worth returning.

Knows what a standby has and what a deployment needs, as values; does not know pods, clocks or how
anything is moved. A standby that does not fit in every respect is left alone: a fresh pod does not
cost more than it did without a pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stoker_api.engine import PROCESS_FLAGS
from stoker_api.quantity import parse_quantity
from stoker_api.v1alpha1 import LLMDeployment

REFILL_PATIENCE_S = 10.0
"""The longest that a pool waits for a wake before it refills behind it."""


@dataclass(frozen=True, slots=True)
class Seat:
    """What a pod is given, and where it is: the same facts of a standby and of a deployment."""

    namespace: str
    image: str
    gpus: int = 0
    gpu_resource: str = ""
    """Empty without GPUs."""
    cpu: float | None = None
    """Cores asked for; None: as many as there are."""
    memory_bytes: float | None = None
    """Limit; None: none."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    priority_class: str = ""
    runtime_class: str = ""


@dataclass(frozen=True, slots=True)
class Standby:
    """A pool's pod that serves nobody."""

    name: str
    uid: str
    seat: Seat
    claims: frozenset[str]
    """What it mounts."""
    created_at: float = 0.0
    settled: bool = False
    """It said that it waits, and nothing has happened since."""
    asked: bool = False
    """It was only just asked, by a process that has begun: its answer is a moment away."""
    residents: frozenset[str] = frozenset()
    """Checkpoint folders whose weights it holds in memory."""


@dataclass(frozen=True, slots=True)
class Need:
    """What a deployment asks of a pod."""

    seat: Seat
    claim: str
    """Where its checkpoint is; empty when it is on no claim."""
    folder: str
    """Where a standby would find it."""
    flags: frozenset[str] = frozenset()
    """Further flags that its runtime is given."""


def derive_need(deployment: LLMDeployment, image: str, folder: str) -> Need:
    """The need of a deployment whose fresh pods would run `image`."""
    spec, source = deployment.spec, deployment.spec.model.parsed_source
    resources = spec.resources
    seat = Seat(
        namespace=deployment.metadata.namespace,
        image=image,
        gpus=resources.gpus,
        gpu_resource=resources.gpu_resource_name if resources.gpus else "",
        cpu=None if resources.cpu is None else parse_quantity(resources.cpu),
        memory_bytes=None if resources.memory is None else parse_quantity(resources.memory),
        node_selector=spec.pod.node_selector,
        priority_class=spec.pod.priority_class_name or "",
        runtime_class=spec.pod.runtime_class_name or "",
    )
    flags = frozenset(flag.partition("=")[0] for flag in spec.engine.extra_args)
    claim = source.location if source.scheme == "pvc" else ""
    return Need(seat, claim, folder, flags)


def find_misfit(need: Need, standby: Standby) -> str:
    """Why a standby cannot take the model in, in words that name both values; empty: it can."""
    wanted, given = need.seat, standby.seat
    equal = (
        ("is in namespace", wanted.namespace, given.namespace),
        ("runs image", wanted.image, given.image),
        ("asks for GPUs:", _gpus(wanted), _gpus(given)),
        (
            "names priorityClassName",
            wanted.priority_class or given.priority_class,
            given.priority_class,
        ),
        (
            "names runtimeClassName",
            wanted.runtime_class or given.runtime_class,
            given.runtime_class,
        ),
    )
    for words, mine, its in equal:
        if mine != its:
            return f"it {words} {mine or 'none'}, the standbys {its or 'none'}"
    for name, least, most in (
        ("cpu", wanted.cpu, given.cpu),
        ("memory", wanted.memory_bytes, given.memory_bytes),
    ):
        if least is not None and most is not None and least > most:
            return f"it asks for {name} {least:g}, the standbys have {most:g}"
    if not wanted.node_selector.items() <= given.node_selector.items():
        return f"it asks for nodes with {dict(wanted.node_selector)}, the standbys do not"
    if own := sorted(need.flags & PROCESS_FLAGS):
        return f"extraArgs {own[0]} is fixed when a pod starts"
    if need.claim not in standby.claims:
        return f"its claim {need.claim or 'is none and'} is not mounted by the standbys"
    return ""


def pick_standbys(need: Need, standbys: Iterable[Standby], count: int) -> tuple[Standby, ...]:
    """At most `count` standbys to take: those that hold the weights first, then the oldest."""
    fitting = [one for one in standbys if one.settled and not find_misfit(need, one)]
    fitting.sort(key=lambda one: (need.folder not in one.residents, one.created_at, one.name))
    return tuple(fitting[: max(0, count)])


def may_soon_have(need: Need, standbys: Iterable[Standby]) -> bool:
    """Whether it is worth a moment to hear what standbys answer, before a fresh pod is started."""
    return any(one.asked and not find_misfit(need, one) for one in standbys)


def expect_path(need: Need, standbys: Iterable[Standby]) -> str:
    """How the next replica would wake: `fresh`, `warm` or `resident`."""
    picked = pick_standbys(need, standbys, 1)
    if not picked:
        return "fresh"
    return "resident" if need.folder in picked[0].residents else "warm"


def is_worth_returning(
    template: str, wanted_template: str, standbys: Iterable[Standby], desired: int
) -> bool:
    """Whether a pod that is let go is better kept as a standby than deleted.

    It is when the pool has fewer that wait than it wants: one that is still starting, or that finds
    no node, is given up for it, for a pod that is up already is worth more.
    """
    waiting = sum(one.settled for one in standbys)
    return template == wanted_template and waiting < desired


def next_refill_at(loading_since: Iterable[float], now: float) -> float | None:
    """When new standbys may be made; None: now. Not beside a wake: on the same node its load would
    share processors and disks with their start."""
    latest = max((since + REFILL_PATIENCE_S for since in loading_since), default=now)
    return latest if latest > now else None


def _gpus(seat: Seat) -> str:
    return f"{seat.gpus} {seat.gpu_resource}" if seat.gpus else ""
