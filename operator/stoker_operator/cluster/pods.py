"""What a pod's manifest and its own announcements say: scheduled, ready, failed, and why.

Knows pod status as kubelet and scheduler write it; does not know what is wanted. Announcements are
believed before the pod's status, which comes up to a probe later.
"""

from __future__ import annotations

import re

from stoker_api import names
from stoker_api.conditions import Reason
from stoker_api.demand import Announcement
from stoker_api.duration import parse_duration
from stoker_operator.cluster.kinds import Manifest, parse_instant
from stoker_operator.decide.observed import Failure, ObservedPod

_PULL = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_PULLED = re.compile(
    r"^Successfully pulled image .* in (\S+?)(?: \((\S+) including waiting\).*)?\.?$"
)
_SETUP = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")


def observe_pod(pod: Manifest, announced: Announcement | None, running: int) -> ObservedPod:
    """The facts that decisions need."""
    metadata, status = pod["metadata"], pod.get("status", {})
    failure = find_failure(pod, announced)
    waiting = _condition(status, "PodScheduled")
    stuck = waiting.get("reason") == "Unschedulable" and not pod["spec"].get("nodeName")
    return ObservedPod(
        name=metadata["name"],
        uid=metadata["uid"],
        template=metadata.get("labels", {}).get(names.LABEL_TEMPLATE, ""),
        created_at=taken_at(pod) or parse_instant(metadata.get("creationTimestamp")),
        terminating=is_leaving(pod),
        scheduled=bool(pod["spec"].get("nodeName")),
        unschedulable=waiting.get("message", "no node fits.") if stuck else "",
        unschedulable_at=parse_instant(waiting.get("lastTransitionTime")) if stuck else 0.0,
        started=shows_life(pod, announced),
        ready=failure is None and _is_ready(pod, announced),
        failure=failure,
        room=announced.room if announced is not None else None,
        running=running,
        warm_tokens=_warm_tokens(announced),
    )


def _warm_tokens(announced: Announcement | None) -> float:
    cache = announced.cache if announced is not None else None
    return cache.tokens * cache.hit_share if cache is not None else 0.0


def is_leaving(pod: Manifest) -> bool:
    """Whether it is on its way out, or back to its pool."""
    marks = pod["metadata"].get("annotations", {})
    return "deletionTimestamp" in pod["metadata"] or names.ANNOTATION_RELEASED_AT in marks


def is_of_pool(pod: Manifest) -> bool:
    """Whether the pod began as a standby: then what its kubelet says may be of an earlier model."""
    return names.LABEL_POOL in pod["metadata"].get("labels", {})


def taken_at(pod: Manifest) -> float:
    """Unix seconds at which a standby became a replica; 0 for all other pods."""
    return ordered_at(pod) if is_of_pool(pod) else 0.0


def ordered_at(pod: Manifest) -> float:
    """Unix seconds at which it was decided that there should be this replica; 0: not by us."""
    return float(pod["metadata"].get("annotations", {}).get(names.ANNOTATION_DECIDED_AT, 0))


def wanted_address(pod: Manifest, announced: Announcement | None) -> str | None:
    """What `stoker.dev/address` should say: where a ready pod answers, else nothing."""
    status = pod.get("status", {})
    present: str | None = pod["metadata"].get("annotations", {}).get(names.ANNOTATION_ADDRESS)
    if announced is not None:
        if announced.phase == "Draining":
            return present
        return announced.address if announced.is_ready else None
    known = not is_of_pool(pod) and _condition(status, "Ready").get("status") == "True"
    if known and status.get("podIP"):
        ip = status["podIP"]
        return present or f"{f'[{ip}]' if ':' in ip else ip}:{names.RUNTIME_PORT}"
    return present


def wake_instants(
    pod: Manifest, announced: Announcement, scheduled_at: float | None
) -> dict[str, float]:
    """Unix seconds at which the phases of this pod's start ended, as far as known."""
    annotations = pod["metadata"].get("annotations", {})
    placed = _condition(pod.get("status", {}), "PodScheduled")
    instants = dict(announced.phases)
    instants["asked"] = float(annotations.get(names.ANNOTATION_ASKED_AT, 0))
    instants["decided"] = ordered_at(pod)
    if not is_of_pool(pod):
        instants["scheduled"] = scheduled_at or parse_instant(placed.get("lastTransitionTime"))
    return {phase: at for phase, at in instants.items() if at}


def read_pull_s(words: str) -> float:
    """Seconds in the kubelet's `Successfully pulled image "x" in 1m2.5s (1m3s including …)`, with
    the wait for other pulls where it is told; 0 where the image was there already."""
    found = _PULLED.search(words)
    try:
        return parse_duration(found[2] or found[1]) if found else 0.0
    except ValueError:  # less than a millisecond
        return 0.0


def see_owned(pod: Manifest, owner: str) -> Manifest:
    """The pod; as if on its way out when it is of an earlier owner of the same name, with which it
    is about to be collected. `owner`: uid."""
    if is_owned(pod, owner):
        return pod
    return pod | {"metadata": pod["metadata"] | {"deletionTimestamp": "soon"}}


def is_owned(manifest: Manifest, owner: str) -> bool:
    """Whether an object belongs to the owner with this uid."""
    references = manifest["metadata"].get("ownerReferences", ())
    return any(each["uid"] == owner for each in references)


def shows_life(pod: Manifest, announced: Announcement | None) -> bool:
    """Whether a process of the pod has said or shown that it runs, or has run."""
    state = _container(pod.get("status", {})).get("state", {})
    return announced is not None or "running" in state or "terminated" in state


def find_failure(pod: Manifest, announced: Announcement | None) -> Failure | None:
    """Why the pod cannot become ready, if it cannot."""
    name, status = pod["metadata"]["name"], pod.get("status", {})
    if status.get("phase") in ("Failed", "Succeeded"):
        message = f"Pod {name} ended: {status.get('reason', '')} {status.get('message', '')}"
        return Failure(Reason.CONTAINER_CRASHED, message.strip() + " It is made again.")
    container = _container(status)
    waiting: Manifest = container.get("state", {}).get("waiting", {})
    if waiting.get("reason") in _PULL:
        return _pull_failure(pod, waiting)
    if waiting.get("reason") in _SETUP:
        message = f"Pod {name} cannot start: {waiting.get('message', waiting['reason'])}"
        return Failure(Reason.CONTAINER_CRASHED, message, final=False, before_start=True)
    if announced is not None and announced.phase == "Failed":
        reason = announced.reason or Reason.ENGINE_CRASHED
        return Failure(reason, announced.message or f"See `kubectl logs {name}`.")
    return _crash(name, container, announced, taken_at(pod))


def _pull_failure(pod: Manifest, waiting: Manifest) -> Failure:
    image = pod["spec"]["containers"][0]["image"]
    words = str(waiting.get("message", waiting["reason"]))[:300]
    message = (
        f"Image {image} cannot be pulled: {words} Correct spec.engine.image, load the image onto "
        "the node, or give the namespace's service account a pull secret; it is tried again."
    )
    return Failure(Reason.IMAGE_PULL_FAILED, message, final=False, before_start=True)


def _crash(
    name: str, container: Manifest, announced: Announcement | None, since: float
) -> Failure | None:
    """A container that ended by itself is down until its next process says that it started; what
    was before `since` concerned somebody else."""
    earlier: Manifest = container.get("lastState", {}).get("terminated", {})
    last: Manifest = container.get("state", {}).get("terminated", earlier)
    if not last or container.get("ready"):
        return None
    ended_at = parse_instant(last.get("finishedAt"))
    said_at = announced.phases.get("container", 0.0) if announced is not None else 0.0
    if max(said_at, since) > ended_at:
        return None
    words = (last.get("message") or last.get("reason") or "").strip()[-300:]
    message = (
        f"The runtime in pod {name} ended with code {last.get('exitCode')}: {words} The kubelet "
        f"starts it again; see `kubectl logs --previous {name}`."
    )
    reason = Reason.OUT_OF_MEMORY if last.get("reason") == "OOMKilled" else Reason.CONTAINER_CRASHED
    return Failure(reason, message, final=False)


def _is_ready(pod: Manifest, announced: Announcement | None) -> bool:
    if announced is not None:
        return announced.is_ready
    if is_of_pool(pod):
        return names.ANNOTATION_ADDRESS in pod["metadata"].get("annotations", {})
    return bool(_condition(pod.get("status", {}), "Ready").get("status") == "True")


def _container(status: Manifest) -> Manifest:
    return next(iter(status.get("containerStatuses") or ()), {})


def _condition(status: Manifest, kind: str) -> Manifest:
    found = (c for c in status.get("conditions") or () if c.get("type") == kind)
    return next(found, {})
