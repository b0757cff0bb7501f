"""What the environment says about the harness: which cluster, which provider, where the cache lies.

The cluster's name decides everything that must not collide between two clusters on one machine.
Nothing here touches the disk. Every other file of the harness reads its paths from here.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

ProviderName = Literal["local", "kind", "current"]

REPOSITORY = Path(__file__).parents[3]
HARNESS = Path(__file__).parent


class HarnessError(Exception):
    """The harness cannot go on; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one run of the harness; `from_env` reads them."""

    name: str = "stoker"
    """Name of the cluster (`STOKER_CLUSTER_NAME`); at most 20 letters, digits, dashes."""
    provider: ProviderName | None = None
    """Which provider (`STOKER_CLUSTER`); unset: `kind` where Docker runs, else `local`."""
    cache: Path = Path.home() / ".cache" / "stoker"
    """Everything that the harness keeps (`XDG_CACHE_HOME`)."""
    image: str = ""
    """Only for `current`: the operator's image that the cluster can pull (`STOKER_IMAGE`)."""
    runtime_image: str = ""
    """Only for `current`: the CPU runtime's image (`STOKER_RUNTIME_IMAGE`)."""
    stub_image: str = ""
    """Only for `current`: the stub's image (`STOKER_STUB_IMAGE`)."""
    keep: bool = False
    """Tests leave the cluster that they started running (`STOKER_KEEP_CLUSTER=1`)."""

    @classmethod
    def from_env(cls, env: dict[str, str] | None = None) -> "Settings":
        """Read the settings, refusing a bad value by its variable's name."""
        env = dict(os.environ) if env is None else env
        name = env.get("STOKER_CLUSTER_NAME", "stoker")
        if not (name.replace("-", "").isalnum() and name == name.lower() and len(name) <= 20):
            raise HarnessError(
                f"STOKER_CLUSTER_NAME is {name!r}: use at most 20 small letters, digits, dashes"
            )
        chosen = env.get("STOKER_CLUSTER", "")
        if chosen and chosen not in get_args(ProviderName):
            raise HarnessError(f"STOKER_CLUSTER is {chosen!r}: use local, kind or current")
        base = env.get("XDG_CACHE_HOME") or os.path.join(env.get("HOME", "/root"), ".cache")
        return cls(
            name=name,
            provider=next((known for known in get_args(ProviderName) if known == chosen), None),
            cache=Path(base) / "stoker",
            image=env.get("STOKER_IMAGE", ""),
            runtime_image=env.get("STOKER_RUNTIME_IMAGE", ""),
            stub_image=env.get("STOKER_STUB_IMAGE", ""),
            keep=env.get("STOKER_KEEP_CLUSTER", "") not in ("", "0"),
        )

    @property
    def cluster_dir(self) -> Path:
        """State of this cluster; removed by `down`."""
        return self.cache / "clusters" / self.name

    @property
    def volumes_dir(self) -> Path:
        """Folders that pods of any local provider can mount through a hostPath volume."""
        return self.cache / "volumes"

    @property
    def kubeconfig(self) -> Path:
        """Where the cluster's kubeconfig is written."""
        return self.cluster_dir / "kubeconfig"
