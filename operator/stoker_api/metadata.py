"""What every object has, and how objects name each other.

Knows the parts of Kubernetes' metadata that Stoker reads; the rest passes through unseen.
"""

from __future__ import annotations

from pydantic import Field

from stoker_api.fields import ApiModel, DnsLabel, Subdomain


class ObjectMeta(ApiModel):
    """The parts of an object's metadata that Stoker reads."""

    name: str
    """Unique within the namespace."""
    namespace: str = "default"
    """Where the object lives."""
    uid: str = ""
    """Unique over time: a deleted and remade object has another."""
    generation: int = 0
    """Counts changes of the spec."""
    resource_version: str = ""
    """Changes with every write."""
    creation_timestamp: str = ""
    """When the object was made."""
    deletion_timestamp: str | None = None
    """When deletion was asked for."""
    labels: dict[str, str] = Field(default={})
    """The user's labels."""
    annotations: dict[str, str] = Field(default={})
    """The user's annotations."""


class SecretReference(ApiModel):
    """Names a Secret in the same namespace."""

    name: Subdomain
    """Name of the Secret."""


class WarmPoolReference(ApiModel):
    """Names a WarmPool in the same namespace."""

    name: DnsLabel
    """Name of the WarmPool."""
