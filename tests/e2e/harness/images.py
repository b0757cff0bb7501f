"""Our images, each named by the hash of its inputs, so that a second run has nothing to do.

It stages the build contexts (locked packages, our sources) and asks a builder for the
images that are missing; the stub needs no builder. It does not load images into clusters.
"""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from e2e.harness.builder import Buildah, Docker, Recipe
from e2e.harness.oci import Layout, Scratch
from e2e.harness.provider import choose
from e2e.harness.report import locked, timed
from e2e.harness.settings import REPOSITORY, HarnessError, Settings
from e2e.harness.toolchain import ensure_packages, tool

Target = Literal["stoker", "cpu", "gpu"]

_IMAGES = REPOSITORY / "images"
_PYTHON = "3.13"
_PREFIX = "docker.io/library"
_EPOCH = 1_577_836_800  # 2020-01-01: equal files give equal layers whenever they were staged


class Builder(Protocol):
    """Builds an image from a recipe under a name."""

    def build(self, name: str, recipe: Recipe) -> None:
        """Build it."""


@dataclass(frozen=True, slots=True)
class Product:
    """One image of ours: its Containerfile and target, its lock, and our packages in it."""

    repository: str
    containerfile: Path
    lock: Path
    target: Target
    sources: tuple[str, ...]

    def source_files(self) -> list[Path]:
        """The files that are copied into the image: Python, and what is compiled there."""
        folders = [REPOSITORY / folder for folder in self.sources]
        kinds = ("*.py", "*.cpp", "*.hpp")
        return [file for folder in folders for kind in kinds for file in sorted(folder.rglob(kind))]

    def name(self) -> str:
        """The full image name; its tag is the hash of all inputs."""
        tag = content_hash(REPOSITORY, [self.containerfile, self.lock, *self.source_files()])
        suffix = f"-{self.target}" if self.target != "stoker" else ""
        return f"{_PREFIX}/{self.repository}:{tag}{suffix}"


_RUNTIME = ("runtime",)
PRODUCTS: dict[Target, Product] = {
    "stoker": Product(
        "stoker",
        _IMAGES / "Containerfile",
        _IMAGES / "requirements-stoker.lock",
        "stoker",
        ("operator", *_RUNTIME),
    ),
    "cpu": Product(
        "stoker-runtime",
        _IMAGES / "Containerfile.runtime",
        _IMAGES / "requirements-runtime.lock",
        "cpu",
        _RUNTIME,
    ),
    "gpu": Product(
        "stoker-runtime",
        _IMAGES / "Containerfile.runtime",
        _IMAGES / "requirements-runtime-gpu.lock",
        "gpu",
        _RUNTIME,
    ),
}


def content_hash(root: Path, files: Iterable[Path]) -> str:
    """Short hash of files' relative names and contents."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(root)}\0{file.stat().st_size}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def ensure_image(settings: Settings, target: Target) -> str:
    """The name of an image made from the checkout as it is, built first when that is new."""
    product = PRODUCTS[target]
    name = product.name()
    if _exists(settings, name):
        return name
    with locked(settings.cache / "images.lock"):
        if not _exists(settings, name):
            with timed(f"building {name}"):
                context = _stage(settings, product)
                recipe = Recipe(product.containerfile, target, context)
                _builder(settings).build(name, recipe)
    return name


def ensure_stub(settings: Settings) -> str:
    """The name of the stub runtime's image."""
    program = tool(settings.cache, "stoker-stub")
    name = f"{_PREFIX}/stoker-stub:{program.parent.name.rsplit('-', 1)[1]}"
    layout = Layout(settings.cache / "images")
    if not layout.has(name):
        with locked(settings.cache / "images.lock"):
            layout.add_scratch(name, Scratch(program, "/stoker-stub", ports=(8000, 8001)))
    return name


def _exists(settings: Settings, name: str) -> bool:
    if choose(settings) == "kind":
        command = ["docker", "image", "inspect", name]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    return Layout(settings.cache / "images").has(name)


def _builder(settings: Settings) -> Builder:
    if choose(settings) == "kind":
        return Docker()
    ensure_packages()
    return Buildah(settings.cache)


def _stage(settings: Settings, product: Product) -> Path:
    """A fresh build context: what the Containerfile copies, with equal times for equal layers."""
    context = settings.cache / "contexts" / f"{product.repository}-{product.target}"
    shutil.rmtree(context, ignore_errors=True)
    packages = _packages(settings, product.lock)
    shutil.copytree(packages, context / "images" / "packages", copy_function=os.link)
    for file in [product.lock, *product.source_files()]:
        copy = context / file.relative_to(REPOSITORY)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    _level(context)
    return context


def _packages(settings: Settings, lock: Path) -> Path:
    """The locked packages, unpacked for the image's Python; kept per lock file."""
    machine = platform.machine()
    folder = settings.cache / "packages" / f"{lock.stem}-{content_hash(_IMAGES, [lock])}-{machine}"
    if folder.exists():
        return folder
    with timed(f"fetching the packages of {lock.name}"):
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        which = ["--python-version", _PYTHON, "--python-platform", f"{machine}-manylinux_2_40"]
        how = ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy"]
        _uv("pip", "install", "--target", str(partial), *which, *how, "--requirement", str(lock))
        # Only for this machine: scripts name its Python, and the installer leaves its lock.
        shutil.rmtree(partial / "bin", ignore_errors=True)
        (partial / ".lock").unlink(missing_ok=True)
        partial.rename(folder)
    return folder


def _level(folder: Path) -> None:
    """Give all files the same times and modes, whoever fetched or edited them and when."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (_EPOCH, _EPOCH))


def _uv(*args: str) -> None:
    beside = Path(sys.executable).parent / "uv"
    program = str(beside) if beside.exists() else shutil.which("uv")
    if not program:
        raise HarnessError("`uv` is missing: run `make setup`")
    result = subprocess.run([program, *args], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise HarnessError(f"uv {' '.join(args)} failed:\n{result.stderr}")
