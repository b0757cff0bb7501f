"""The pod of one replica of a deployment: which model it runs, and how.

Knows the runtime's arguments (`stoker_runtime.config`; `tests/test_contract.py` feeds them to it);
does not know how many replicas there are or where they run. `frame` has what all pods have.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_api import names
from stoker_api.source import ModelSource
from stoker_api.v1alpha1 import KvCacheDtype, LLMDeployment, Quantization
from stoker_operator.build.frame import Frame, PodSettings, build_runtime, pick_process_flags
from stoker_operator.build.metadata import Manifest, build_metadata

BATCHED_TOKENS = 512
"""Default of the runtime's `--max-batched-tokens`, which may not be below `--max-num-seqs`."""


@dataclass(frozen=True, slots=True)
class PodOrder:
    """One pod to make, or to adopt."""

    name: str
    template: str
    asked_at: float
    """Unix seconds at which the request arrived that it is made for."""
    decided_at: float
    """Unix seconds."""

    @property
    def marks(self) -> dict[str, str]:
        """Annotations that tell what it is made for, and when that was decided."""
        return {
            names.ANNOTATION_ASKED_AT: f"{self.asked_at:.6f}",
            names.ANNOTATION_DECIDED_AT: f"{self.decided_at:.6f}",
        }


def build_pod(deployment: LLMDeployment, order: PodOrder, settings: PodSettings) -> Manifest:
    """The manifest of one replica."""
    spec, name = deployment.spec, deployment.metadata.name
    metadata = build_metadata(deployment, order.name)
    metadata["labels"] = spec.pod.labels | metadata["labels"]
    metadata["labels"][names.LABEL_TEMPLATE] = order.template
    metadata["annotations"] = spec.pod.annotations | order.marks
    source = spec.model.parsed_source
    assert source.scheme == "pvc", f"only pvc:// can be mounted, was {source}"
    frame = Frame(
        metadata=metadata,
        image=settings.pick_image(spec.engine.image, spec.resources),
        args=build_args(deployment),
        secret=names.guard_name(name),
        resources=spec.resources,
        overrides=spec.pod,
        claims={names.MODELS_MOUNT: source.location},
        environment=({"name": "STOKER_DEPLOYMENT", "value": name},),
    )
    return build_runtime(frame, settings)


def build_args(deployment: LLMDeployment) -> list[str]:
    """The runtime's flags."""
    spec = deployment.spec
    flags: dict[str, object] = {
        "--model": _model_path(spec.model.parsed_source),
        "--served-name": deployment.served_name,
        "--port": names.RUNTIME_PORT,
        "--admin-port": names.RUNTIME_ADMIN_PORT,
        **pick_process_flags(spec.resources),
        **pick_model_flags(deployment),
    }
    return ["serve", *(f"{flag}={value}" for flag, value in flags.items()), *spec.engine.extra_args]


def pick_model_flags(deployment: LLMDeployment) -> dict[str, str | int]:
    """The flags that come and go with the model, those apart that every model has."""
    engine, quantization = deployment.spec.engine, deployment.spec.model.quantization
    flags: dict[str, str | int] = {}
    if quantization != Quantization.AUTO:
        flags["--quantization"] = quantization.lower()
    if engine.max_model_len is not None:
        flags["--max-model-len"] = engine.max_model_len
    if engine.max_num_seqs is not None:
        flags["--max-num-seqs"] = engine.max_num_seqs
        if engine.max_num_seqs > BATCHED_TOKENS:
            flags["--max-batched-tokens"] = engine.max_num_seqs
    if engine.kv_cache_dtype != KvCacheDtype.AUTO:
        flags["--kv-cache-dtype"] = engine.kv_cache_dtype.lower()
    if not engine.prefix_caching:
        flags["--prefix-caching"] = 0
    return flags


def _model_path(source: ModelSource) -> str:
    return f"{names.MODELS_MOUNT}/{source.path}" if source.path else names.MODELS_MOUNT
