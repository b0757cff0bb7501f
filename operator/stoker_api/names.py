"""The words that operator, gateway and runtime pods share: labels, annotations, ports, paths.

Knows literals and the naming of children; does not know Kubernetes clients or models. Everybody
imports it, except the runtime, which repeats the few literals it needs (a contract test compares).
"""

from __future__ import annotations

GROUP = "stoker.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "stoker"

LABEL_NAME = "app.kubernetes.io/name"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_COMPONENT = "app.kubernetes.io/component"
RUNTIME_NAME = "stoker-runtime"
MANAGED_BY = "stoker"
LABEL_DEPLOYMENT = f"{GROUP}/deployment"
LABEL_TEMPLATE = f"{GROUP}/template"
LABEL_POOL = f"{GROUP}/pool"
"""Of a warm pool's pods, those that serve a deployment by now included."""
LABEL_POOL_TEMPLATE = f"{GROUP}/pool-template"

ANNOTATION_ADDRESS = f"{GROUP}/address"
"""`ip:port` of a pod that announced itself ready; written by the operator for all gateways."""
ANNOTATION_DECIDED_AT = f"{GROUP}/decided-at"
"""Unix seconds at which the operator decided to make the pod."""
ANNOTATION_ASKED_AT = f"{GROUP}/asked-at"
"""Unix seconds at which the request arrived that the pod was made for."""
ANNOTATION_RELEASED_AT = f"{GROUP}/released-at"
"""Unix seconds at which a deployment let go of a pod that is to return to its pool."""
ANNOTATION_NUDGED = f"{GROUP}/nudged"
"""How often the operator has touched a pod that its node seemed to have put aside."""
ANNOTATION_INTERNAL_PORTS = f"{GROUP}/internal-ports"
"""On gateway pods: the internal port of every worker process, comma-separated."""

RUNTIME_CONTAINER = "runtime"
RUNTIME_PORT = 8000
RUNTIME_ADMIN_PORT = 8001
MODELS_MOUNT = "/models"

TOKEN_SECRET_KEY = "token"  # the key's name, not a secret
INTERNAL_PORT = 8090
DEMAND_PATH = "/internal/demand"
ANNOUNCE_PATH = "/internal/announce"
REFUSED_HEADER = "x-stoker-refused"
"""Set by a runtime that answers 503 before any work: `draining`, `full` or `loading`."""

DEMAND_PURPOSE = "demand"


def runtime_purpose(namespace: str, name: str) -> str:
    """The purpose from which the token of one deployment's pods is derived."""
    return f"runtime/{namespace}/{name}"


def pool_purpose(namespace: str, name: str) -> str:
    """The purpose from which the key of one pool's admin ports is derived."""
    return f"pool/{namespace}/{name}"


def pool_child_name(pool: str) -> str:
    """The Secret and the NetworkPolicy of a pool's pods."""
    return f"{pool}-pool"


def guard_name(deployment: str) -> str:
    """The Secret with the token of a deployment's pods, and the NetworkPolicy that closes them to
    all but the gateway."""
    return f"{deployment}-runtime"


def headless_service_name(deployment: str) -> str:
    """The Service that lists a deployment's pods."""
    return f"{deployment}-pods"


def pod_name(deployment: str, template: str, index: int) -> str:
    """The name of one replica, the same for whoever computes it."""
    return f"{deployment}-{template}-{index}"
