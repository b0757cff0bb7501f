"""All settings of the gateway, from the environment (prefix `STOKER_`), checked once at start.

Knows names, units, defaults and bounds; does not know who uses them. Read by `__main__`; a bad
value ends the start with a message that names it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from stoker_api.environ import Port, Positive, split_names


class Settings(BaseModel):
    """One gateway pod. Fields are read from `STOKER_<FIELD IN CAPITALS>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: str = "stoker"
    """The gateway's own namespace."""
    watch_namespaces: str = ""
    """Comma-separated namespaces whose deployments are served; empty: all of the cluster."""
    host: str = ""
    """Address to listen on; empty: all, IPv4 and IPv6."""
    port: Port = 8080
    """Public port: the OpenAI routes."""
    internal_port: Port = 8090
    """First internal port; worker `i` listens on this plus `i`."""
    workers: int = Field(default=2, ge=1, le=64)
    """Worker processes; each is a whole gateway with its own queues."""
    worker_hung_s: Annotated[float, Field(ge=1)] = 30
    """A worker whose event loop has not turned for so long is killed and replaced."""
    max_queued: int = Field(default=1024, ge=1)
    """Requests that may wait per deployment and worker; more are answered 429."""
    max_queued_bytes: int = Field(default=64 * 2**20, ge=1)
    """Bytes of bodies that may wait per deployment and worker; more are answered 429."""
    max_body_bytes: int = Field(default=8 * 2**20, ge=1)
    """Largest request body; more is answered 413, before it is read where it is announced."""
    max_buffered_bytes: int = Field(default=256 * 2**20, ge=1)
    """Bytes of bodies that one worker keeps in memory, all deployments; more are answered 429."""
    api_keys_dir: Path | None = None
    """Folder with one API key per file, read again when it changes; unset: no key is asked for."""
    allowed_origins: str = ""
    """Comma-separated origins whose web pages may ask, `*` for any; empty: none."""
    internal_key_file: Path | None = None
    """File with the key that internal tokens derive from; unset: internal routes are open."""
    heartbeat_after_s: Positive = 10
    """A held stream gets its 200 and a first `: waiting` comment after this, and then again."""
    drain_accept_s: float = Field(default=5, ge=0)
    """After SIGTERM new connections are still accepted for this long (endpoints propagate)."""
    drain_deadline_s: Positive = 600
    """After SIGTERM requests may take this long to end."""
    connect_timeout_s: Positive = 1
    """Longest TCP connect to a pod."""
    client_timeout_s: Positive = 60
    """Longest time for a client to send a whole request, or to take no byte of its answer."""
    keep_alive_s: Positive = 75
    """An idle client connection is closed after this."""
    probe_min_s: Positive = 0.1
    """First pause between probes of a pod that is not ready."""
    probe_max_s: Positive = 2
    """Longest pause between probes of a pod that is not ready."""
    log_format: Literal["text", "json"] = "text"
    """Log lines for people or for machines."""
    access_log: bool = False
    """Whether every request gets a line in the log when it ends."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe level that is logged."""

    @property
    def namespace_list(self) -> list[str]:
        """The namespaces to watch; empty means all."""
        return split_names(self.watch_namespaces)

    @property
    def origin_list(self) -> list[str]:
        """The origins whose pages may ask."""
        return split_names(self.allowed_origins)

    @property
    def internal_ports(self) -> list[int]:
        """The internal port of every worker."""
        return [self.internal_port + index for index in range(self.workers)]
