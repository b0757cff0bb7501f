"""The bare API server of the harness serves CRDs and validates objects."""

import pytest

from e2e.harness.apiserver import ControlPlane
from e2e.harness.kubectl import KubectlError

pytestmark = pytest.mark.e2e

_CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "kettles.test.stoker.dev"},
    "spec": {
        "group": "test.stoker.dev",
        "names": {"kind": "Kettle", "plural": "kettles"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {
                                "type": "object",
                                "properties": {"cups": {"type": "integer", "minimum": 1}},
                            }
                        },
                    }
                },
            }
        ],
    },
}


def test_a_bare_api_server_refuses_what_a_crd_forbids(apiserver: ControlPlane) -> None:
    kubectl = apiserver.kubectl
    kubectl.apply(_CRD)
    kubectl("wait", "--for=condition=Established", "crd/kettles.test.stoker.dev")
    kettle = {"apiVersion": "test.stoker.dev/v1", "kind": "Kettle", "metadata": {"name": "k"}}
    kubectl.apply({**kettle, "spec": {"cups": 2}})
    assert kubectl.get("kettles", "k")["spec"]["cups"] == 2
    with pytest.raises(KubectlError, match="should be greater than or equal to 1"):
        kubectl.apply({**kettle, "spec": {"cups": 0}})
