"""From a cluster to an installed release: images, volume, chart; each only when missing.

It puts the harness in a row for the stories and the demo; it asks no model anything.
"""

from dataclasses import dataclass
from pathlib import Path

from e2e.harness.cluster import Cluster
from e2e.harness.images import ensure_image, ensure_stub
from e2e.harness.report import say, timed
from e2e.harness.settings import Settings
from e2e.harness.volume import folder_volume
from e2e.stage.models import copy_tiny_chat
from e2e.stage.release import NAMESPACE, Images, Release, install, read_api_key
from e2e.stage.specs import CLAIM

_GATEWAY = "stoker-gateway"


@dataclass(frozen=True, slots=True)
class Stage:
    """A cluster with the release in it."""

    cluster: Cluster
    release: Release
    volumes: Path

    def volume(self, name: str) -> Path:
        """Where a model folder of that name lies for pods that name `pvc://models/NAME`."""
        return self.volumes / name


def bring_up(cluster: Cluster) -> Stage:
    """Make everything run, telling each step; what already runs is used as it is."""
    images = _ensure_images(cluster.settings)
    for name in (images.stoker, images.runtime, images.stub):
        cluster.provider.load_image(name)
    volumes = _provide_models(cluster)
    with timed("installing the chart"):
        install(cluster.kubectl, cluster.helm, images)
    url = f"{cluster.provider.reach(_GATEWAY, NAMESPACE, 80).url}/v1"
    say(f"the gateway answers at {url}")
    release = Release(cluster.kubectl, images, url, read_api_key(cluster.kubectl))
    return Stage(cluster, release, volumes)


def _ensure_images(settings: Settings) -> Images:
    return Images(
        stoker=settings.image or ensure_image(settings, "stoker"),
        runtime=settings.runtime_image or ensure_image(settings, "cpu"),
        stub=settings.stub_image or ensure_stub(settings),
    )


def _provide_models(cluster: Cluster) -> Path:
    """The claim `models` in the default namespace, with the demo's model on it."""
    folder = cluster.settings.volumes_dir / CLAIM
    folder.mkdir(parents=True, exist_ok=True)
    copy_tiny_chat(folder / "tiny-chat")
    cluster.kubectl.apply(*folder_volume(CLAIM, folder))
    return folder
