"""The programs of a local node and their configuration files, close to what kubeadm would set.

Where a setting differs from a default, the reason stands next to it. It writes files and returns
command lines; `local.py` starts them. It does not know images or stories.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.harness.apiserver import Endpoint, administrator, apiserver_command, etcd_command
from e2e.harness.certificates import Authority, Pair
from e2e.harness.kubectl import write_kubeconfig
from e2e.harness.network import Plan

_CNI_PROGRAMS = "/usr/lib/cni"
CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
_COREFILE = """\
cluster.local:53 in-addr.arpa:53 {{
  bind {node_ip}
  errors
  ready {node_ip}:8181
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {login}
    ttl 5
  }}
}}
"""
PROGRAMS = (
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "etcd",
    "coredns",
    "node-init",
)


@dataclass(frozen=True, slots=True)
class Node:
    """One node and its control plane, living in `folder` with the addresses of `plan`."""

    name: str
    folder: Path
    plan: Plan
    programs: dict[str, Path]
    pause_image: str
    cgroup: str

    @property
    def endpoint(self) -> Endpoint:
        """The API server listens on the node's address, so that the machine reaches it too."""
        return Endpoint(self.plan.node_ip, 6443, self.plan.service_cidr, "http://127.0.0.1:2379")

    @property
    def authority(self) -> Authority:
        """The cluster's certificate authority."""
        return Authority(self.folder / "pki")

    def write_kubeconfig(self, path: Path) -> Path:
        """The administrator's kubeconfig."""
        return self._kubeconfig(path, administrator(self.authority))

    def _kubeconfig(self, path: Path, user: Pair) -> Path:
        authority = self.authority.pair.certificate
        return write_kubeconfig(path, self.endpoint.url, authority, user)

    def _login(self, name: str, user: str, group: str = "") -> Path:
        pair = self.authority.issue(name, user, group=group)
        return self._kubeconfig(self.folder / f"{name}.kubeconfig", pair)

    def etcd(self) -> list[str]:
        """The store of the API server."""
        peer = "http://127.0.0.1:2380"
        return etcd_command(self.programs["etcd"], self.folder / "etcd", self.endpoint.etcd, peer)

    def apiserver(self) -> list[str]:
        """The API server; every admission plugin of a default cluster is on."""
        return apiserver_command(self.programs["kube-apiserver"], self.endpoint, self.authority)

    def controller_manager(self) -> list[str]:
        """The controllers: service accounts, garbage collection, volumes, endpoints."""
        tokens = self.authority.issue("service-accounts", "service-accounts")
        login = self._login("controller-manager", "system:kube-controller-manager")
        return [
            str(self.programs["kube-controller-manager"]),
            f"--kubeconfig={login}",
            f"--service-account-private-key-file={tokens.key}",
            f"--root-ca-file={self.authority.pair.certificate}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
        ]

    def scheduler(self) -> list[str]:
        """The scheduler."""
        login = self._login("scheduler", "system:kube-scheduler")
        program = str(self.programs["kube-scheduler"])
        return [program, f"--kubeconfig={login}", "--leader-elect=false"]

    def proxy(self) -> list[str]:
        """kube-proxy; the conntrack limits are the machine's own, so they stay as they are."""
        return [
            str(self.programs["kube-proxy"]),
            f"--kubeconfig={self._login('proxy', 'system:kube-proxy')}",
            "--proxy-mode=iptables",
            f"--cluster-cidr={self.plan.pod_cidr}",
            f"--hostname-override={self.name}",
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ]

    def kubelet(self) -> list[str]:
        """The kubelet, with its configuration in a file."""
        user = f"system:node:{self.name}"
        return [
            str(self.programs["kubelet"]),
            f"--config={self._write('kubelet.json', self._kubelet_config())}",
            f"--kubeconfig={self._login('kubelet', user, 'system:nodes')}",
            f"--root-dir={self.folder / 'kubelet'}",
            f"--hostname-override={self.name}",
            f"--node-ip={self.plan.node_ip}",
        ]

    def _kubelet_config(self) -> dict[str, Any]:
        serving = self.authority.issue("node", self.name, hosts=(self.plan.node_ip,))
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "x509": {"clientCAFile": str(self.authority.pair.certificate)},
                "webhook": {"enabled": True},
                "anonymous": {"enabled": False},
            },
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
            "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
            # Two nodes on one machine must not clean up each other's pods.
            "cgroupRoot": self.cgroup,
            "cgroupDriver": "cgroupfs",
            "clusterDNS": [self.plan.node_ip],
            "clusterDomain": "cluster.local",
            "resolvConf": "",
            # Test machines have swap and full disks; a test is no place for evictions.
            "failSwapOn": False,
            "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%"},
            # Images are imported, not pulled: what the kubelet removes never comes back.
            "imageGCHighThresholdPercent": 100,
        }

    def coredns(self) -> list[str]:
        """The cluster's DNS on the node's address; it answers for the cluster and nothing else."""
        login = self._login("coredns", "stoker-dns", "system:masters")
        corefile = self.folder / "Corefile"
        corefile.write_text(_COREFILE.format(node_ip=self.plan.node_ip, login=login))
        return [str(self.programs["coredns"]), "-conf", str(corefile)]

    def containerd(self) -> list[str]:
        """The container runtime, with the CNI plugin that kind uses too (`ptp`)."""
        self._write("cni/10-stoker.conflist", self._cni_config())
        config = self.folder / "containerd.toml"
        config.write_text(self._containerd_config())
        return ["containerd", "--config", str(config)]

    def _cni_config(self) -> dict[str, Any]:
        """Routed pods: no bridge, so no br_netfilter, and no masquerading, as the machine has a
        route back. There is no `portmap`: nothing of ours uses host ports."""
        addresses = {
            "type": "host-local",
            "dataDir": str(self.folder / "cni-addresses"),
            "ranges": [[{"subnet": self.plan.pod_cidr}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        }
        plugin = {"type": "ptp", "ipMasq": False, "ipam": addresses}
        return {"cniVersion": "1.0.0", "name": "stoker", "plugins": [plugin]}

    def _containerd_config(self) -> str:
        plugin = 'plugins."io.containerd.grpc.v1.cri"'
        return f"""\
version = 2
root = "{self.folder}/containerd"
state = "/run/containerd"
[grpc]
address = "{CONTAINERD_SOCKET}"
[{plugin}]
sandbox_image = "{self.pause_image}"
restrict_oom_score_adj = true
[{plugin}.containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[{plugin}.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[{plugin}.containerd.runtimes.runc.options]
SystemdCgroup = false
[{plugin}.cni]
bin_dir = "{_CNI_PROGRAMS}"
conf_dir = "{self.folder}/cni"
"""

    def _write(self, name: str, content: dict[str, Any]) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1))
        return path
