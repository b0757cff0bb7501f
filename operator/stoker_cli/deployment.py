"""Reads Stoker's objects for the commands, with the user's own kubeconfig.

Knows the Kubernetes client and how its errors read to a person; does not know what is shown.
"""

from __future__ import annotations

from typing import Any, NoReturn, cast

import typer
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from stoker_api import names

TIMEOUT_S = 5.0
"""Of each of the client's four tries."""


class Deployments:
    """The deployments that the kubeconfig's current context reaches."""

    def __init__(self, namespace: str | None) -> None:
        """Load the kubeconfig. Exits with a readable word when there is none."""
        try:
            config.load_kube_config()  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise typer.BadParameter(f"no usable kubeconfig: {error}") from error
        self.namespace = namespace or _current_namespace()
        self._api = client.CustomObjectsApi()

    def fetch(self, name: str) -> dict[str, Any]:
        """The deployment as the API server has it. Exits with a readable word when absent."""
        return self._get("llmdeployments", name) or self._refuse("LLMDeployment", name)

    def find(self, name: str) -> dict[str, Any]:
        """The deployment of that name, else the warm pool. Exits when neither is there."""
        found = self._get("llmdeployments", name) or self._get("warmpools", name)
        return found or self._refuse("LLMDeployment or WarmPool", name)

    def _get(self, plural: str, name: str) -> dict[str, Any] | None:
        where = (names.GROUP, names.VERSION, self.namespace, plural, name)
        try:
            found = self._api.get_namespaced_custom_object(*where, _request_timeout=TIMEOUT_S)
            return cast(dict[str, Any], found)
        except HTTPError as error:
            raise typer.BadParameter(f"the cluster does not answer: {error}") from error
        except ApiException as error:
            if error.status != 404:
                raise typer.BadParameter(f"cannot read {name}: {error.reason}") from error
            return None

    def _refuse(self, kind: str, name: str) -> NoReturn:
        raise typer.BadParameter(f"no {kind} named {name!r} in namespace {self.namespace!r}")


def _current_namespace() -> str:
    _, active = config.list_kube_config_contexts()  # type: ignore[no-untyped-call]
    return str(active["context"].get("namespace", "default"))
