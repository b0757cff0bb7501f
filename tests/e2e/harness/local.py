"""The `local` provider: a real one-node Kubernetes on this machine, without Docker; needs root.

It starts the programs of `node.py` within the namespaces of `namespaces.py`, loads images into
containerd, and takes everything down again. A running healthy cluster is reused; the leftovers of
a crash are removed.
"""

import hashlib
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.harness import namespaces
from e2e.harness.apiserver import is_ready
from e2e.harness.kubectl import Kubectl, KubectlError
from e2e.harness.network import Plan, connect, disconnect, free_plan, observe_routes
from e2e.harness.node import CONTAINERD_SOCKET, PROGRAMS, Node
from e2e.harness.oci import Layout, Scratch
from e2e.harness.process import Daemon, answers, start, wait_until
from e2e.harness.provider import Address
from e2e.harness.report import locked, say, timed
from e2e.harness.settings import HARNESS, HarnessError, Settings
from e2e.harness.toolchain import ensure_packages, tools

_NODE_SOURCES = ("apiserver.py", "certificates.py", "namespaces.py", "network.py", "node.py")
_DAEMONS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
)


@dataclass(frozen=True, slots=True)
class LocalProvider:
    """One node in its own network, mount and process namespaces."""

    settings: Settings

    def prepare(self) -> None:
        """Install packages and build the node's programs."""
        ensure_packages()
        tools(self.settings.cache, PROGRAMS)

    def up(self) -> Path:
        """Start the cluster, or reuse the one that runs."""
        with self._alone():
            self.prepare()
            programs = tools(self.settings.cache, PROGRAMS)
            revision = _revision(programs)
            if self._is_healthy(revision, programs):
                return self.settings.kubeconfig
            self._remove()
            with timed(f"starting the local cluster {self.settings.name}"):
                daemons = self._start(programs)
                self._wait_for_node(programs, daemons)
            (self._folder / "revision").write_text(revision)
        return self.settings.kubeconfig

    def down(self) -> None:
        """End all processes and remove links, cgroups, and files."""
        with self._alone():
            self._remove()

    def runs(self) -> bool:
        """Whether the node's first process lives."""
        return bool(namespaces.find_init(self._folder))

    def load_image(self, name: str) -> None:
        """Import an image of the harness' image folder; blobs that containerd has do not travel."""
        if name in self._ctr("images", "ls", "-q").split():
            return
        began = time.monotonic()
        try:
            size = self._import(name, set(self._ctr("content", "ls", "-q").split()))
        except HarnessError:
            # What an import that was killed left behind may be collected while we count on it.
            size = self._import(name, set())
        say(f"imported {name}: {size / 1e6:.1f} MB in {time.monotonic() - began:.1f} s")

    def _import(self, name: str, known: set[str]) -> int:
        """Stream an image into containerd; returns how many bytes of blobs travelled."""
        layout = Layout(self.settings.cache / "images")
        if not layout.has(name):
            raise HarnessError(f"there is no image {name}: `make images` prints those that are")
        command = [*self._ctr_command, "images", "import", "-"]
        pipe = subprocess.PIPE
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
        ) as importer:
            assert importer.stdin is not None, "a pipe was asked for"
            try:
                size = layout.write_archive(name, importer.stdin, known)
            except BrokenPipeError:
                size = 0
            output = importer.communicate()[0].decode()
        if importer.returncode != 0:
            raise HarnessError(f"importing {name} failed: {output}")
        return size

    def reach(self, service: str, namespace: str, port: int) -> Address:
        """The Service's ClusterIP: the machine has a route to it."""
        found = self._kubectl.get("service", service, "-n", namespace)
        return Address(found["spec"]["clusterIP"], port)

    @property
    def _folder(self) -> Path:
        return self.settings.cluster_dir

    @property
    def _plan(self) -> Plan:
        return Plan(int((self._folder / "index").read_text()))

    @property
    def _kubectl(self) -> Kubectl:
        return Kubectl(tools(self.settings.cache, ["kubectl"])["kubectl"], self.settings.kubeconfig)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with locked(self.settings.cache / "clusters" / "local.lock"):
            yield

    def _is_healthy(self, revision: str, programs: dict[str, Path]) -> bool:
        init = namespaces.find_init(self._folder)
        mark = self._folder / "revision"
        if not init or not mark.exists() or mark.read_text() != revision:
            return False
        inside = [programs[name] for name in _DAEMONS] + [Path("containerd")]
        if not all(namespaces.runs_inside(init, program) for program in inside):
            return False
        return _node_is_ready(Kubectl(programs["kubectl"], self.settings.kubeconfig))

    def _remove(self) -> None:
        namespaces.destroy(self._folder)
        if (self._folder / "index").exists():
            disconnect(self._plan)
        namespaces.remove_cgroup(self._cgroup)
        self._discard_files()

    def _discard_files(self) -> None:
        """Move the node's files away at once; deleting gigabytes goes on without us."""
        trash = self.settings.cache / "trash"
        if self._folder.exists():
            trash.mkdir(exist_ok=True)
            self._folder.rename(trash / f"{self.settings.name}-{time.time_ns()}")
        if trash.exists():
            start("rm", ["rm", "-rf", str(trash)], self.settings.cache / "trash.log")

    @property
    def _cgroup(self) -> str:
        return f"stoker-{self.settings.name}"

    def _choose_plan(self) -> Plan:
        indexes = (self.settings.cache / "clusters").glob("*/index")
        plan = free_plan([int(file.read_text()) for file in indexes], observe_routes())
        (self._folder / "index").write_text(str(plan.index))
        return plan

    def _start(self, programs: dict[str, Path]) -> tuple[Daemon, ...]:
        self._folder.mkdir(parents=True)
        plan = self._choose_plan()
        init = namespaces.boot(self._folder, programs["node-init"])
        connect(plan, init, namespaces.enter(init))
        pause = f"docker.io/library/stoker-pause:{programs['node-init'].parent.name[-12:]}"
        cgroup = namespaces.make_cgroup(self._cgroup)
        node = Node(self.settings.name, self._folder, plan, programs, pause, cgroup)
        node.write_kubeconfig(self.settings.kubeconfig)
        etcd = self._daemon(init, "etcd", node.etcd())
        containerd = self._daemon(init, "containerd", node.containerd())
        server = self._daemon(init, "kube-apiserver", node.apiserver())
        self._load_pause(pause, programs["node-init"], containerd)
        wait_until(
            lambda: is_ready(node.endpoint, node.authority), "the API server", 120, (etcd, server)
        )
        commands = (
            ("kubelet", node.kubelet()),
            ("kube-controller-manager", node.controller_manager()),
            ("kube-scheduler", node.scheduler()),
            ("kube-proxy", node.proxy()),
            ("coredns", node.coredns()),
        )
        others = [self._daemon(init, name, command) for name, command in commands]
        return (etcd, server, containerd, *others)

    def _daemon(self, init: int, name: str, command: list[str]) -> Daemon:
        log = self._folder / "log" / f"{name}.log"
        return start(name, [*namespaces.enter(init), *command], log)

    def _load_pause(self, name: str, program: Path, containerd: Daemon) -> None:
        wait_until(self._containerd_serves, "containerd", 30, (containerd,))
        layout = Layout(self.settings.cache / "images")
        if not layout.has(name):
            with locked(self.settings.cache / "images.lock"):
                layout.add_scratch(name, Scratch(program, "/pause"))
        self.load_image(name)

    def _containerd_serves(self) -> bool:
        command = [*self._ctr_command, "version"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _wait_for_node(self, programs: dict[str, Path], daemons: tuple[Daemon, ...]) -> None:
        kubectl = Kubectl(programs["kubectl"], self.settings.kubeconfig)
        wait_until(lambda: _node_is_ready(kubectl), "the node being ready", 120, daemons)
        dns = f"http://{self._plan.node_ip}:8181/ready"
        wait_until(lambda: answers(dns), "the cluster's DNS", 60, daemons)
        account = ("get", "serviceaccount", "default", "--ignore-not-found", "--output=name")
        wait_until(lambda: bool(kubectl(*account)), "the default service account", 30)

    @property
    def _ctr_command(self) -> list[str]:
        init = namespaces.find_init(self._folder)
        enter = namespaces.enter(init)
        return [*enter, "ctr", "--address", CONTAINERD_SOCKET, "--namespace", "k8s.io"]

    def _ctr(self, *args: str) -> str:
        return subprocess.check_output([*self._ctr_command, *args], text=True)


def _node_is_ready(kubectl: Kubectl) -> bool:
    try:
        nodes = kubectl.get("nodes", "--request-timeout=5s")["items"]
    except KubectlError:
        return False
    return any(_is_schedulable(node) for node in nodes)


def _is_schedulable(node: dict[str, Any]) -> bool:
    """Ready, and the taint that every new node has is gone; that takes up to five seconds more."""
    conditions = node["status"].get("conditions", [])
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not node["spec"].get("taints")


def _revision(programs: dict[str, Path]) -> str:
    """Changes when a program or the way it is started changes; then the cluster is made anew."""
    digest = hashlib.sha256("".join(map(str, programs.values())).encode())
    for name in _NODE_SOURCES:
        digest.update((HARNESS / name).read_bytes())
    return digest.hexdigest()
