"""A small handle on a cluster: the `kubectl` program bound to one kubeconfig.

Stories and the harness itself talk to the cluster through it. It knows no object of ours.
"""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.harness.certificates import Pair
from e2e.harness.settings import HarnessError


class KubectlError(HarnessError):
    """`kubectl` ended with an error; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """`kubectl("get", "pods")` returns what the command prints, or raises `KubectlError`."""

    program: Path
    kubeconfig: Path

    def __call__(self, *args: str, stdin: str | None = None, timeout_s: float = 120.0) -> str:
        """Run one command; `stdin` is what `-f -` reads."""
        result = subprocess.run(
            [self.program, *args],
            input=stdin,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if result.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(args)}: {result.stderr.strip()}")
        return result.stdout

    @property
    def env(self) -> dict[str, str]:
        """Environment for other programs (helm, our own CLI) that shall use this cluster."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig)}

    def get(self, *args: str) -> Any:
        """The object or list that `kubectl get … -o json` prints."""
        return json.loads(self("get", *args, "-o", "json"))

    def apply(self, *documents: dict[str, Any], namespace: str = "default") -> str:
        """Server-side apply objects given as dicts."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)})
        return self("apply", "--server-side", "-n", namespace, "-f", "-", stdin=text)


def write_kubeconfig(path: Path, server: str, authority: Path, user: Pair) -> Path:
    """Write a kubeconfig (JSON is YAML) that logs in with a client certificate."""
    files = {"client-certificate": str(user.certificate), "client-key": str(user.key)}
    cluster = {"server": server, "certificate-authority": str(authority)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "stoker", "cluster": cluster}],
        "users": [{"name": "stoker", "user": files}],
        "contexts": [{"name": "stoker", "context": {"cluster": "stoker", "user": "stoker"}}],
        "current-context": "stoker",
    }
    path.write_text(json.dumps(config, indent=1))
    path.chmod(0o600)
    return path
