"""Asks the operator what it remembers of a deployment, through the API server or at an address.

Knows where operators are found and how errors read to a person; does not know what is made of it.
"""

from __future__ import annotations

import json
from typing import Any, cast
from urllib.error import URLError
from urllib.request import urlopen

import typer
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import HTTPError

from stoker_api import names

METRICS_PORT = 9090
"""Where an operator listens that does not name its port."""
TIMEOUT_S = 20.0


def fetch_arrivals(key: str, namespace: str, address: str = "") -> dict[str, Any]:
    """The last day of `namespace/name` from the operator that remembers most of it.

    namespace: the operator's; address: its base URL, such as that of `kubectl port-forward`. Exits
    with a readable word when nobody answers; needs a loaded kubeconfig when no address is given.
    """
    if address:
        return _read(f"{address.rstrip('/')}/arrivals/{key}")
    try:
        told = [_ask(place, namespace, key) for place in _operators(namespace)]
    except HTTPError as error:
        raise typer.BadParameter(f"the cluster does not answer: {error}") from error
    except ApiException as error:
        words = f"the operator in {namespace!r} cannot be asked: {error.status} {error.reason}"
        hint = "; forward its port 9090 and give `--operator http://localhost:9090`"
        raise typer.BadParameter(words + hint) from error
    if not told:
        words = f"no operator runs in namespace {namespace!r}"
        raise typer.BadParameter(f"{words}; `--operator-namespace` says where else to look")
    return max(told, key=lambda one: len(one.get("minutes", ())))


def _operators(namespace: str) -> list[str]:
    """`pod:port` of each operator that runs."""
    selector = f"{names.LABEL_COMPONENT}=operator"
    api: Any = client.CoreV1Api()
    pods = api.list_namespaced_pod(namespace, label_selector=selector)
    running = (pod for pod in pods.items if pod.status.phase == "Running")
    return [f"{pod.metadata.name}:{_metrics_port(pod)}" for pod in running]


def _metrics_port(pod: Any) -> int:
    ports = (port for one in pod.spec.containers for port in one.ports or ())
    return next((port.container_port for port in ports if port.name == "metrics"), METRICS_PORT)


def _ask(place: str, namespace: str, key: str) -> dict[str, Any]:
    path = f"/api/v1/namespaces/{namespace}/pods/{place}/proxy/arrivals/{key}"
    api: Any = client.ApiClient()
    request = api.param_serialize("GET", path, auth_settings=["BearerToken"])
    answer = api.call_api(*request[:2], header_params=request[2], _request_timeout=TIMEOUT_S)
    body = answer.read()
    if answer.status != 200:
        raise ApiException(status=answer.status, reason=answer.reason)
    return cast(dict[str, Any], json.loads(body))


def _read(url: str) -> dict[str, Any]:
    if not url.startswith(("http://", "https://")):
        raise typer.BadParameter(f"--operator must be a http:// or https:// address, was {url!r}")
    try:
        with urlopen(url, timeout=TIMEOUT_S) as answer:
            return cast(dict[str, Any], json.load(answer))
    except (URLError, OSError, ValueError) as error:
        raise typer.BadParameter(f"{url} does not answer: {error}") from error
