"""etcd and kube-apiserver: alone on loopback for tests of CRDs, or inside a local node.

Alone they start in about three seconds, need no root and no container, and have neither
controllers nor a node. `node.py` uses the same two command lines within its namespaces.
"""

import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from e2e.harness.certificates import Authority, Pair
from e2e.harness.kubectl import Kubectl, write_kubeconfig
from e2e.harness.process import Daemon, answers, start, wait_until
from e2e.harness.settings import HarnessError
from e2e.harness.toolchain import tools

_TRIES = 3


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where an API server listens and which Service addresses it hands out."""

    address: str
    port: int
    service_cidr: str
    etcd: str
    """etcd's client URL."""

    @property
    def url(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.port}"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running API server for tests: a kubeconfig and a `kubectl` bound to it."""

    kubeconfig: Path
    kubectl: Kubectl


@dataclass(frozen=True, slots=True)
class _Running:
    endpoint: Endpoint
    daemons: tuple[Daemon, ...]

    def stop(self) -> None:
        for daemon in reversed(self.daemons):
            daemon.stop()


def etcd_command(program: Path, data: Path, url: str, peer_url: str) -> list[str]:
    """etcd as a store for tests: nothing is synced to the disk."""
    return [
        str(program),
        f"--data-dir={data}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={url}",
        f"--advertise-client-urls={url}",
        f"--listen-peer-urls={peer_url}",
        f"--initial-advertise-peer-urls={peer_url}",
        f"--initial-cluster=default={peer_url}",
        "--log-level=warn",
    ]


def apiserver_command(program: Path, endpoint: Endpoint, authority: Authority) -> list[str]:
    """kube-apiserver with RBAC and its default admission plugins; makes its certificates."""
    first_service = f"{endpoint.service_cidr.rsplit('.', 1)[0]}.1"
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    hosts = (*names, "127.0.0.1", endpoint.address, first_service)
    serving = authority.issue("apiserver", "kube-apiserver", hosts=hosts)
    kubelet_client = authority.issue("kubelet-client", "kube-apiserver", group="system:masters")
    tokens = authority.issue("service-accounts", "service-accounts")
    return [
        str(program),
        f"--etcd-servers={endpoint.etcd}",
        f"--bind-address={endpoint.address}",
        f"--advertise-address={endpoint.address}",
        f"--secure-port={endpoint.port}",
        f"--service-cluster-ip-range={endpoint.service_cidr}",
        f"--client-ca-file={authority.pair.certificate}",
        f"--tls-cert-file={serving.certificate}",
        f"--tls-private-key-file={serving.key}",
        f"--kubelet-client-certificate={kubelet_client.certificate}",
        f"--kubelet-client-key={kubelet_client.key}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={tokens.certificate}",
        f"--service-account-signing-key-file={tokens.key}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
    ]


def administrator(authority: Authority) -> Pair:
    """The certificate of a user who may do everything."""
    return authority.issue("admin", "stoker-admin", group="system:masters")


def is_ready(endpoint: Endpoint, authority: Authority) -> bool:
    """True when the API server has finished its start-up; anybody may ask."""
    return answers(f"{endpoint.url}/readyz", authority.pair.certificate)


@contextmanager
def control_plane(cache_dir: Path) -> Iterator[ControlPlane]:
    """etcd and kube-apiserver on loopback, alone; both end with the context."""
    programs = tools(cache_dir, ["kube-apiserver", "kubectl", "etcd"])
    folder = Path(tempfile.mkdtemp(prefix="stoker-api-"))
    running: _Running | None = None
    try:
        authority = Authority(folder / "pki")
        running = _start(programs, folder, authority)
        admin = administrator(authority)
        kubeconfig = write_kubeconfig(
            folder / "kubeconfig", running.endpoint.url, authority.pair.certificate, admin
        )
        kubectl = Kubectl(programs["kubectl"], kubeconfig)
        # The first namespace appears a moment after the server calls itself ready.
        found = ("get", "namespace", "default", "--ignore-not-found", "--output=name")
        wait_until(lambda: bool(kubectl(*found)), "the default namespace", 30)
        yield ControlPlane(kubeconfig, kubectl)
    finally:
        if running:
            running.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _start(programs: dict[str, Path], folder: Path, authority: Authority) -> _Running:
    """Start both; a free port may be taken before it is used, so try a few times."""
    for attempt in range(1, _TRIES + 1):
        ports = _free_ports(3)
        etcd, peer = (f"http://127.0.0.1:{port}" for port in ports[:2])
        endpoint = Endpoint("127.0.0.1", ports[2], "10.0.0.0/24", etcd)
        store = etcd_command(programs["etcd"], folder / f"etcd-{attempt}", etcd, peer)
        server = apiserver_command(programs["kube-apiserver"], endpoint, authority)
        # Without controllers nobody makes the service accounts that this plugin asks for.
        server.append("--disable-admission-plugins=ServiceAccount")
        daemons = (
            start("etcd", store, folder / "etcd.log"),
            start("kube-apiserver", server, folder / "apiserver.log"),
        )
        running = _Running(endpoint, daemons)
        try:
            _wait_ready(running, authority)
        except BaseException as error:
            running.stop()
            if attempt == _TRIES or not isinstance(error, HarnessError):
                raise
        else:
            return running
    raise AssertionError("the last attempt returns or raises")


def _wait_ready(running: _Running, authority: Authority) -> None:
    def ready() -> bool:
        return is_ready(running.endpoint, authority)

    wait_until(ready, "the API server being ready", 120, running.daemons)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; held together so that they differ."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
