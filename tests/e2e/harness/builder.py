"""The two image builders: `buildah` with a base image of our own making, and `docker`.

Both build one Containerfile from a staged folder; what is in the folder `images.py` decides. It
does not know what the images are for.
"""

import hashlib
import inspect
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.report import timed
from e2e.harness.settings import HarnessError

_SUITE = "trixie"
_MIRROR = "http://deb.debian.org/debian"
_BASE = "docker.io/library/debian:trixie-slim"
_SLIM = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build: a Containerfile, one of its targets, the folder it copies from."""

    containerfile: Path
    target: str
    context: Path


@dataclass(frozen=True, slots=True)
class Buildah:
    """Builds without any engine and without a registry; keeps its storage in the cache folder."""

    cache: Path

    def build(self, name: str, recipe: Recipe) -> None:
        """Build an image and export it into the image folder."""
        self._ensure_base()
        flags = ["--layers", "--isolation", "chroot", "--network", "host", "--pull-never"]
        which = ["--target", recipe.target, "--file", str(recipe.containerfile), "--tag", name]
        self._buildah("bud", *flags, *which, str(recipe.context))
        layout = self.cache / "images"
        self._buildah("push", "--disable-compression", name, f"oci:{layout}:{name}")

    def _ensure_base(self) -> None:
        """Debian's smallest system as the image that the Containerfiles start from."""
        revision = hashlib.sha256(inspect.getsource(_make_base).encode()).hexdigest()[:12]
        mark = self.cache / "buildah" / f"base-{_SUITE}-{revision}"
        if mark.exists():
            return
        root = self.cache / "buildah" / "base"
        with timed(f"making the base image {_BASE}"):
            _make_base(root)
            container = self._buildah("from", "scratch").strip()
            self._buildah("copy", "--quiet", container, str(root), "/")
            self._buildah("config", "--cmd", "/bin/sh", container)
            self._buildah("commit", "--quiet", "--rm", container, _BASE)
        shutil.rmtree(root)
        mark.touch()

    def _buildah(self, command: str, *args: str) -> str:
        storage = ["--root", str(self.cache / "buildah" / "storage")]
        storage += ["--runroot", str(self.cache / "buildah" / "run"), "--storage-driver", "overlay"]
        return _run(["buildah", *storage, command, *args])


def _make_base(root: Path) -> None:
    """debootstrap, then remove what Debian's slim images leave out too."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    _run(["debootstrap", "--variant=minbase", _SUITE, str(root), _MIRROR])
    for folder in _SLIM:
        shutil.rmtree(root / folder, ignore_errors=True)
    # As in Docker's images: what is lost in a crash is built again.
    (root / "etc/dpkg/dpkg.cfg.d/unsafe-io").write_text("force-unsafe-io\n")
    for lists in (root / "var/lib/apt/lists").glob("*Packages*"):
        lists.unlink()


@dataclass(frozen=True, slots=True)
class Docker:
    """Builds with a Docker engine, which pulls the base image."""

    def build(self, name: str, recipe: Recipe) -> None:
        """Build an image; it stays in the engine's store."""
        which = ["--target", recipe.target, "--file", str(recipe.containerfile), "--tag", name]
        _run(
            [
                "docker",
                "build",
                "--quiet",
                "--build-arg",
                "PIP_ARGS=--no-index",
                *which,
                str(recipe.context),
            ]
        )


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        output = f"{result.stdout}{result.stderr}"[-4000:]
        raise HarnessError(f"{' '.join(command)} failed:\n{output}")
    return result.stdout
