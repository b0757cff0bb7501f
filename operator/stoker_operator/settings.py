"""All settings of the operator, from the environment (prefix `STOKER_`), checked once at start.

Knows names, units, defaults and bounds; does not know who uses them. Read by `__main__`; a bad
value ends the start with a message that names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from stoker_api.environ import Port, Positive, split_names


class Settings(BaseModel):
    """One operator process. Fields are read from `STOKER_<FIELD IN CAPITALS>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = "stoker"
    """The operator's own namespace: its Lease and the gateways are there."""
    release: str = ""
    """Helm release whose gateways are listened to; empty: every gateway of the namespace."""
    watch_namespaces: str = ""
    """Comma-separated namespaces whose deployments are managed; empty: all of the cluster."""
    pod_name: str = "stoker-operator"
    """Identity in the Lease: a process restarted under the same name takes over at once."""
    lease_name: str = "stoker-operator"
    """Name of the Lease that says which replica acts."""
    lease_duration_s: Annotated[float, Field(ge=1, le=60)] = 3
    """A leader not heard of for this long is replaced; it renews three times in that time."""
    gateway_service: str = "stoker-gateway"
    """Name of the gateways' public Service."""
    gateway_port: Port = 80
    """Port of the gateways' public Service."""
    gateway_internal_service: str = "stoker-gateway-internal"
    """Name of the gateways' internal Service, to which runtime pods announce themselves."""
    cluster_domain: str = "cluster.local"
    """DNS domain of the cluster; an ExternalName must be complete."""
    internal_key_file: Path | None = None
    """File with the key that internal tokens derive from; unset: runtime pods take any request."""
    runtime_image_cpu: str = "stoker-runtime:cpu"
    """Image of runtime pods without GPUs."""
    runtime_image_gpu: str = "stoker-runtime:gpu"
    """Image of runtime pods with GPUs."""
    runtime_image_pull_policy: Literal["IfNotPresent", "Always", "Never"] = "IfNotPresent"
    """When nodes pull the runtime image."""
    network_policies: bool = False
    """Whether runtime pods get a NetworkPolicy that leaves them only the gateway."""
    drain_deadline_s: Annotated[int, Field(ge=1)] = 600
    """A pod that is scaled down may take this long to finish its requests."""
    demand_lease_s: Positive = 10
    """What a gateway last reported counts for this long after its stream broke."""
    resync_s: Positive = 60
    """How often what watches may have missed is looked up."""
    health_port: Port = 8080
    """Port of `/healthz` and `/readyz`."""
    metrics_port: Port = 9090
    """Port of `/metrics`."""
    log_format: Literal["text", "json"] = "text"
    """Log lines for people or for machines."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""

    @property
    def namespace_list(self) -> list[str]:
        """The namespaces to watch; empty means all."""
        return split_names(self.watch_namespaces)

    @property
    def internal_key(self) -> bytes | None:
        """The key that tokens derive from. Raises `OSError` when the file cannot be read."""
        if self.internal_key_file is None:
            return None
        return self.internal_key_file.read_bytes().strip()

    @property
    def gateway_host(self) -> str:
        """DNS name of the gateways' public Service inside the cluster."""
        return f"{self.gateway_service}.{self.namespace}.svc"

    @property
    def gateway_url(self) -> str:
        """Base URL for OpenAI clients inside the cluster."""
        port = "" if self.gateway_port == 80 else f":{self.gateway_port}"
        return f"http://{self.gateway_host}{port}/v1"
