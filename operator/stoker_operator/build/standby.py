"""The pod of a warm pool: a runtime without a model, that can read all it may be asked to load.

Knows its arguments and mounts; does not know how many there are or who will have it. The volumes of
a pod are fixed when it is made, so it mounts, read-only, the claims of every deployment that names
the pool, each in a folder of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

from stoker_api import names
from stoker_api.quantity import parse_quantity
from stoker_api.source import ModelSource, parse_source
from stoker_api.v1alpha1 import WarmPool
from stoker_operator.build.frame import Frame, PodSettings, build_runtime, pick_process_flags
from stoker_operator.build.metadata import Manifest, build_metadata


def build_standby(
    pool: WarmPool, name: str, template: str, claims: Iterable[str], settings: PodSettings
) -> Manifest:
    """The manifest of one standby that mounts `claims`."""
    spec, mounted = pool.spec, sorted(claims)
    metadata = build_metadata(pool, name)
    metadata["labels"] = spec.pod.labels | metadata["labels"]
    metadata["labels"][names.LABEL_POOL_TEMPLATE] = template
    metadata["annotations"] = dict(spec.pod.annotations)
    frame = Frame(
        metadata=metadata,
        image=settings.pick_image(spec.engine.image, spec.resources),
        args=build_standby_args(pool, mounted),
        secret=names.pool_child_name(pool.metadata.name),
        resources=spec.resources,
        overrides=spec.pod,
        claims={f"{names.MODELS_MOUNT}/{claim}": claim for claim in mounted},
    )
    return build_runtime(frame, settings)


def build_standby_args(pool: WarmPool, claims: Iterable[str]) -> list[str]:
    """The runtime's flags: those of the process, and what to keep in memory."""
    spec, mounted = pool.spec, set(claims)
    flags: dict[str, object] = {
        "--port": names.RUNTIME_PORT,
        "--admin-port": names.RUNTIME_ADMIN_PORT,
        **pick_process_flags(spec.resources),
    }
    sources = [parse_source(text) for text in spec.preload]
    folders = [locate(source) for source in sources if source.location in mounted]
    if folders:
        flags["--preload"] = ",".join(folders)
        if spec.host_memory is not None:
            flags["--preload-bytes"] = int(parse_quantity(spec.host_memory))
    return ["serve", *(f"{flag}={value}" for flag, value in flags.items())]


def locate(source: ModelSource) -> str:
    """Where a standby finds the checkpoint of a `pvc://` source."""
    path = f"/{source.path}" if source.path else ""
    return f"{names.MODELS_MOUNT}/{source.location}{path}"
