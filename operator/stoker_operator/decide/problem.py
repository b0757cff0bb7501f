"""What in a spec, or around it, keeps pods from being made at all.

Knows which sources and fields this release serves, and which claims exist; does not know pods. The
answer names the field, its value, and what to write instead.
"""

from __future__ import annotations

from collections.abc import Container

from stoker_api.conditions import Reason
from stoker_api.v1alpha1 import KvCacheDtype, LLMDeployment, LLMDeploymentSpec, Quantization
from stoker_operator.decide.observed import Failure


def derive_problem(deployment: LLMDeployment, claims: Container[str]) -> Failure | None:
    """The first thing to repair; `claims` are the PersistentVolumeClaims of the namespace."""
    return _unsupported_field(deployment.spec) or _source_problem(deployment, claims)


def _unsupported_field(spec: LLMDeploymentSpec) -> Failure | None:
    on_cpus = not spec.resources.gpus
    if on_cpus and spec.model.quantization == Quantization.FP8:
        return _unsupported("model.quantization", "FP8 on CPUs", "Auto, None, Int8 or Int4")
    if on_cpus and spec.engine.kv_cache_dtype == KvCacheDtype.FP8:
        return _unsupported("engine.kvCacheDtype", "FP8 on CPUs", "Auto or Int8")
    return None


def _unsupported(field: str, value: object, instead: str) -> Failure:
    message = f"spec.{field} {value} is not supported by this release; use {instead}."
    return Failure(Reason.FIELD_UNSUPPORTED, message)


def _source_problem(deployment: LLMDeployment, claims: Container[str]) -> Failure | None:
    source = deployment.spec.model.parsed_source
    if source.scheme != "pvc":
        message = (
            f"spec.model.source {source} cannot be fetched by this release; put the checkpoint on "
            "a PersistentVolumeClaim and use pvc://claim/path."
        )
        return Failure(Reason.SOURCE_UNSUPPORTED, message)
    if source.location not in claims:
        namespace = deployment.metadata.namespace
        message = (
            f"PersistentVolumeClaim {source.location} is not in namespace {namespace}; "
            "create it or correct spec.model.source. It is looked for continuously."
        )
        return Failure(Reason.CLAIM_NOT_FOUND, message)
    return None
