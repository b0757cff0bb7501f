"""The installed chart as a story sees it: deploy models, ask them, read their status.

It knows our objects and the chart; the provider underneath knows the cluster.
"""

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from e2e.harness.kubectl import Kubectl
from e2e.harness.settings import REPOSITORY
from e2e.stage.asks import Asker, make_client

NAMESPACE = "stoker-system"
CHART = REPOSITORY / "charts" / "stoker"
_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Images:
    """The images that the release and the stories run."""

    stoker: str
    runtime: str
    stub: str


def install(kubectl: Kubectl, helm: Path, images: Images) -> None:
    """`helm upgrade --install` the chart from the checkout and wait until it is available."""
    repository, _, tag = images.stoker.rpartition(":")
    values = {
        "image": {"repository": repository, "tag": tag},
        "runtime": {"image": {"cpu": images.runtime}},
        "networkPolicies": {"enabled": True},
    }
    command = [str(helm), "upgrade", "--install", "stoker", str(CHART), "-n", NAMESPACE]
    command += ["--create-namespace", "--wait", "--timeout", "180s", "--values", "-"]
    result = subprocess.run(
        command,
        input=json.dumps(values),
        env=kubectl.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, f"helm: {result.stderr}"


@dataclass(frozen=True, slots=True)
class Release:
    """The running release; `url` is what an OpenAI client takes as base URL."""

    kubectl: Kubectl
    images: Images
    url: str
    api_key: str = field(repr=False)

    def asker(self, model: str, max_tokens: int = 16) -> Asker:
        """Who asks `model`, with the release's API key."""
        return Asker(make_client(self.url, self.api_key), model, max_tokens)

    @contextmanager
    def deployed(self, name: str, spec: dict[str, Any]) -> Iterator[None]:
        """Apply an LLMDeployment, wait until the operator has seen it, delete it at the end.

        After a failure it stays, so that the dump shows what the story saw."""
        self.apply(name, spec)
        self.wait(name, lambda found: bool(found.get("status", {}).get("conditions")), "seen")
        yield
        self.kubectl("delete", "llm", name, "--wait=true", "--ignore-not-found", timeout_s=180)
        self.wait_for_no_pods(name)

    def apply(self, name: str, spec: dict[str, Any]) -> None:
        """Apply an LLMDeployment in the default namespace."""
        kind = {"apiVersion": "stoker.dev/v1alpha1", "kind": "LLMDeployment"}
        self.kubectl.apply({**kind, "metadata": {"name": name}, "spec": spec})

    def get(self, name: str) -> dict[str, Any]:
        """The LLMDeployment as it is."""
        found: dict[str, Any] = self.kubectl.get("llm", name)
        return found

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        """One condition of the deployment; empty when it is absent."""
        conditions = self.get(name).get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == kind), {})

    def wait(
        self, name: str, holds: Callable[[dict[str, Any]], bool], what: str, timeout_s: float = 120
    ) -> dict[str, Any]:
        """The deployment as soon as `holds`. Raises `TimeoutError` with its last status."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            found = self.get(name)
            if holds(found):
                return found
            time.sleep(_POLL_S)
        status = json.dumps(found.get("status", {}), indent=1)
        raise TimeoutError(f"{name} is not {what} after {timeout_s:.0f} s: {status}")

    def wait_at_zero(self, name: str, timeout_s: float = 120) -> None:
        """Until no pod is left and the status says so."""
        self.wait_for_no_pods(name, timeout_s)
        self.wait(name, lambda found: found["status"].get("phase") == "ScaledToZero", "at zero")

    def wait_for_no_pods(self, name: str, timeout_s: float = 120) -> None:
        """Until the deployment has no pod, not even a leaving one."""
        deadline = time.monotonic() + timeout_s
        while self.pods(name):
            if time.monotonic() > deadline:
                raise TimeoutError(f"pods of {name} are still there after {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def pods(self, name: str) -> list[dict[str, Any]]:
        """The deployment's pods, leaving ones included."""
        items: list[dict[str, Any]] = self.kubectl.get(
            "pods", "-l", f"stoker.dev/deployment={name}"
        )["items"]
        return items

    def own_pods(self, component: str) -> list[str]:
        """Names of the release's running pods of a component: `operator` or `gateway`."""
        selector = f"app.kubernetes.io/component={component}"
        found = self.kubectl.get("pods", "-n", NAMESPACE, "-l", selector)["items"]
        return [
            pod["metadata"]["name"]
            for pod in found
            if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] == "Running"
        ]

    def resource_versions(self) -> dict[str, str]:
        """The version of everything the operator may write, Leases excepted."""
        kinds = "llmdeployments,warmpools,pods,services,secrets,configmaps,events"
        found = self.kubectl.get(kinds, "--all-namespaces")["items"]
        return {one["metadata"]["uid"]: one["metadata"]["resourceVersion"] for one in found}

    def wait_for_event(self, name: str, reason: str, timeout_s: float = 20) -> None:
        """Until an event about the deployment has that reason; events follow the status."""
        deadline = time.monotonic() + timeout_s
        while reason not in {event["reason"] for event in self.events(name)}:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no event {reason} about {name} after {timeout_s:.0f} s")
            time.sleep(_POLL_S)

    def events(self, name: str) -> list[dict[str, Any]]:
        """Events about the deployment."""
        found: list[dict[str, Any]] = self.kubectl.get(
            "events", f"--field-selector=involvedObject.name={name}"
        )["items"]
        return found


def read_api_key(kubectl: Kubectl) -> str:
    """The API key that the chart made."""
    data = kubectl.get("secret", "stoker-api-key", "-n", NAMESPACE)["data"]["api-key"]
    return base64.b64decode(data).decode()
