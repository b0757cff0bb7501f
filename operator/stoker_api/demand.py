"""Wire types between gateway and operator: demand snapshots, announcements, pings (NDJSON lines).

Knows the fields and their JSON; does not know HTTP, clocks or what anybody concludes from them.
Written by the gateway, read by the operator; announcements come from runtime pods.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

RuntimePhase = Literal["Starting", "Loading", "Ready", "Draining", "Failed"]


class _Wire(BaseModel):
    """Immutable, and tolerant of fields that a newer peer adds."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Demand(_Wire):
    """What one gateway worker sees of one deployment: a full snapshot, never a difference."""

    kind: Literal["demand"] = "demand"
    deployment: str
    """`namespace/name`."""
    queued: int = Field(ge=0)
    """Requests held."""
    running: int = Field(ge=0)
    """Requests handed to a pod and not yet ended."""
    idle_s: float = Field(ge=0)
    """Seconds since a request last came or ended; an age, so clocks need not agree."""
    arrivals: int = Field(ge=0)
    """Requests since the worker started."""
    oldest_wait_s: float = Field(default=0, ge=0)
    """How long the longest-held request has waited."""
    pods: dict[str, int] = {}
    """Requests running on each pod, by name."""
    queued_tokens: int = Field(default=0, ge=0)
    """Prompt tokens of the requests held, estimated from the bytes of their bodies."""
    arrived_tokens: int = Field(default=0, ge=0)
    """Prompt tokens since the worker started, each request as estimated when it came."""
    completed_tokens: int = Field(default=0, ge=0)
    """Tokens made since the worker started; 0 until the first answer that tells its `usage`."""


class Room(_Wire):
    """What a runtime found when it had loaded its model: the sum behind "it fits"."""

    weight_bytes: int = Field(ge=0)
    kv_bytes_per_token: int = Field(ge=1)
    memory_bytes: int = Field(ge=0)
    """What was there for weights, cache and activations."""
    tokens: int = Field(ge=0)
    """Tokens that the cache holds."""
    max_model_len: int = Field(ge=1)
    """Longest prompt plus answer, in tokens."""


class Speed(_Wire):
    """What a runtime's steps cost, as it measured: step + token · tokens, + more for each row."""

    step_s: float = Field(ge=0, allow_inf_nan=False)
    """Seconds of a step without tokens."""
    token_s: float = Field(gt=0, allow_inf_nan=False)
    """More for each token of a prompt."""
    seq_s: float = Field(gt=0, allow_inf_nan=False)
    """More for each sequence that decodes."""
    chunk_tokens: int = Field(ge=1)
    """Tokens that one step may carry."""


class Cache(_Wire):
    """What a runtime's prefix cache is worth."""

    tokens: int = Field(ge=0)
    """Tokens that it can find again."""
    hit_share: float = Field(ge=0, le=1)
    """Share of the latest prompts' tokens that it found."""


class Announcement(_Wire):
    """What a runtime pod says of itself: the fast path beside probes and pod status."""

    kind: Literal["announce"] = "announce"
    namespace: str
    deployment: str
    pod: str
    address: str
    """`ip:port` of its OpenAI routes."""
    phase: RuntimePhase
    slots: int = Field(default=0, ge=0)
    """Sequences it runs at once; known when ready."""
    reason: str = ""
    message: str = ""
    phases: dict[str, float] = {}
    """Unix seconds at which each phase ended: container, imports, weights, firstToken."""
    room: Room | None = None
    """With phase Ready: what fits."""
    steps: int = Field(default=0, ge=0)
    """Steps that the engine has computed: orders what is said within a phase."""
    speed: Speed | None = None
    """Once enough steps were seen."""
    cache: Cache | None = None

    @property
    def key(self) -> str:
        """`namespace/deployment`."""
        return f"{self.namespace}/{self.deployment}"

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return self.phase == "Ready"


class Ping(_Wire):
    """Nothing changed; the stream lives."""

    kind: Literal["ping"] = "ping"


DemandLine = Demand | Announcement | Ping
_lines: TypeAdapter[DemandLine] = TypeAdapter(DemandLine)


def parse_line(line: bytes) -> DemandLine:
    """One NDJSON line. Raises `pydantic.ValidationError`."""
    return _lines.validate_json(line)
