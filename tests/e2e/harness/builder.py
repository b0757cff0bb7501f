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

from e2e.harness.oci import Layout
from e2e.harness.report import timed
from e2e.harness.settings import HarnessError

_SUITE = "trixie"
_MIRROR = "http://deb.debian.org/debian"
_BASE = "docker.io/library/debian:trixie-slim"
_KEPT = 6
_LEFT_OUT = ("doc", "man", "locale", "info", "groff", "lintian", "linda")


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
        self._buildah("rm", "--all")  # what a killed build left
        self._ensure_base()
        flags = ["--layers", "--isolation", "chroot", "--network", "host", "--pull-never"]
        which = ["--target", recipe.target, "--file", str(recipe.containerfile), "--tag", name]
        self._buildah("bud", *flags, *which, str(recipe.context))
        self._export(name)
        self._forget_old(name.rsplit(":", 1)[0])

    def _forget_old(self, repository: str) -> None:
        """Keep the newest images of one name; the layers they share stay."""
        listed = self._buildah("images", "--noheading", "--format", "{{.Name}}:{{.Tag}}").split()
        for old in [one for one in listed if one.startswith(f"{repository}:")][_KEPT:]:
            self._buildah("rmi", old)
        Layout(self.cache / "images").keep_newest(repository, _KEPT)

    def _export(self, name: str) -> None:
        """Stream the image into the image folder; layers that it has are read past."""
        push = [*self._command, "push", "--quiet", name, f"docker-archive:/dev/stdout:{name}"]
        with subprocess.Popen(push, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as source:
            assert source.stdout is not None, "a pipe was asked for"
            Layout(self.cache / "images").add_docker_archive(name, source.stdout)
            while source.stdout.read(1 << 20):
                pass
        if source.returncode != 0:
            raise HarnessError(f"exporting {name} failed: {' '.join(push)}")

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
        return _run([*self._command, command, *args])

    @property
    def _command(self) -> list[str]:
        storage = self.cache / "buildah"
        folders = ["--root", f"{storage}/storage", "--runroot", f"{storage}/run"]
        return ["buildah", *folders, "--storage-driver", "overlay"]


def _make_base(root: Path) -> None:
    """debootstrap, then what Docker's slim images do too: no documentation, no syncing to disk."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    _run(["debootstrap", "--variant=minbase", _SUITE, str(root), _MIRROR])
    settings = ["force-unsafe-io", *(f"path-exclude /usr/share/{name}/*" for name in _LEFT_OUT)]
    settings += ["path-include /usr/share/doc/*/copyright"]
    (root / "etc/dpkg/dpkg.cfg.d/slim").write_text("\n".join([*settings, ""]))
    for name in _LEFT_OUT:
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    shutil.rmtree(root / "var/cache/apt", ignore_errors=True)
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
