"""The Services of a deployment: one lists its pods, one leads clients to the gateway.

Knows manifests; does not know what exists. Clients never reach pods directly: only the gateway can
hold a request while nothing runs.
"""

from __future__ import annotations

from stoker_api import names
from stoker_api.v1alpha1 import LLMDeployment
from stoker_operator.build.metadata import Manifest, build_metadata, build_selector


def build_headless_service(deployment: LLMDeployment) -> Manifest:
    """Lists the pods, ready or not, for people and for scrapers of metrics."""
    name = names.headless_service_name(deployment.metadata.name)
    port = {"name": "http", "port": names.RUNTIME_PORT, "targetPort": "http", "protocol": "TCP"}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(deployment, name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": build_selector(deployment.metadata.name),
            "ports": [port],
        },
    }


def build_client_service(deployment: LLMDeployment, gateway_host: str) -> Manifest:
    """An alias of the gateway in the deployment's namespace: `http://<name>/v1` reaches it.

    `gateway_host` must be complete, down to the cluster's domain: an alias is never searched.
    """
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": build_metadata(deployment, deployment.metadata.name),
        "spec": {"type": "ExternalName", "externalName": gateway_host},
    }
