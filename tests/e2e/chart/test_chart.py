"""The chart against a real API server: accepted, restricted, and strict about its values."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.harness.apiserver import ControlPlane
from e2e.harness.settings import REPOSITORY, Settings
from e2e.harness.toolchain import tools
from stoker_api.environ import read_settings
from stoker_gateway.settings import Settings as GatewaySettings
from stoker_operator.settings import Settings as OperatorSettings

pytestmark = pytest.mark.e2e

_CHART = REPOSITORY / "charts" / "stoker"
_EVERYTHING = {
    "networkPolicies": {"enabled": True},
    "gateway": {"service": {"type": "NodePort"}, "workers": 3},
    "watchNamespaces": ["default"],
}
_REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"gateway": {"workers": 0}}, "/gateway/workers"),
    ({"gateway": {"service": {"type": "Public"}}}, "/gateway/service/type"),
    ({"operator": {"replicas": "two"}}, "/operator/replicas"),
    ({"log": {"level": "loud"}}, "/log/level"),
    ({"watchNamespaces": ["Team_A"]}, "/watchNamespaces/0"),
    ({"gatway": {}}, "gatway"),
    ({"drainDeadlineSeconds": 0}, "/drainDeadlineSeconds"),
    ({"gateway": {"drainDeadlineSeconds": 0}}, "/gateway/drainDeadlineSeconds"),
    ({"monitoring": {"alerts": "yes"}}, "/monitoring/alerts"),
    ({"monitoring": {"labels": {"release": 1}}}, "/monitoring/labels/release"),
    ({"internalKey": {"secret": "x"}}, "/internalKey"),
    ({"userRoles": "edit"}, "/userRoles"),
]


@pytest.fixture(scope="module")
def helm(harness_settings: Settings) -> Path:
    """The pinned `helm`."""
    return tools(harness_settings.cache, ["helm"])["helm"]


def _helm(helm: Path, *args: str, values: dict[str, Any] | None = None) -> str:
    result = subprocess.run(
        [helm, *args, "--values", "-"],
        input=json.dumps(values or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout if result.returncode == 0 else f"refused: {result.stderr}"


def _render(helm: Path, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    flags = ("-n", "default", "--kube-version", "1.34.4")
    rendered = _helm(helm, "template", "stoker", str(_CHART), *flags, values=values)
    return [document for document in yaml.safe_load_all(rendered) if document]


def test_lint_finds_nothing(helm: Path) -> None:
    assert "0 chart(s) failed" in _helm(helm, "lint", "--strict", str(_CHART))


@pytest.mark.parametrize(("values", "words"), _REFUSED, ids=lambda one: str(one))
def test_a_wrong_value_is_refused_by_its_path(
    helm: Path, values: dict[str, Any], words: str
) -> None:
    flags = ("--kube-version", "1.34.4")
    printed = _helm(helm, "template", "stoker", str(_CHART), *flags, values=values)
    assert printed.startswith("refused"), printed
    assert words in printed


def _pod(documents: list[dict[str, Any]], name: str) -> dict[str, Any]:
    deployments = [one for one in documents if one["kind"] == "Deployment"]
    templates = {one["metadata"]["name"]: one["spec"]["template"] for one in deployments}
    return dict(templates[f"stoker-{name}"])


def _environ(pod: dict[str, Any]) -> dict[str, str]:
    env = pod["spec"]["containers"][0]["env"]
    return {one["name"]: one.get("value", "x") for one in env}


def test_processes_read_large_numbers_of_a_values_file(helm: Path) -> None:
    """Helm reads them as floats: a million would become `1e+06`."""
    large = {"maxQueued": 2_000_000, "maxBodyBytes": 64_000_000, "drainDeadlineSeconds": 1_000_000}
    documents = _render(helm, {"gateway": large, "drainDeadlineSeconds": 1_000_000})
    gateway = read_settings(GatewaySettings, _environ(_pod(documents, "gateway")))
    assert (gateway.max_queued, gateway.max_body_bytes) == (2_000_000, 64_000_000)
    assert gateway.drain_deadline_s == 1_000_000
    operator = read_settings(OperatorSettings, _environ(_pod(documents, "operator")))
    assert operator.drain_deadline_s == 1_000_000


def test_annotations_of_pods_may_be_changed_but_not_those_that_processes_need(helm: Path) -> None:
    given = {"prometheus.io/scrape": "false", "a/b": "c"}
    pod = _pod(_render(helm, {"gateway": {"podAnnotations": given}}), "gateway")
    assert pod["metadata"]["annotations"] == {
        "stoker.dev/internal-ports": "8090,8091",
        "prometheus.io/port": "8090",
        **given,
    }
    rendered = _helm(
        helm,
        "template",
        "stoker",
        str(_CHART),
        "--kube-version",
        "1.34.4",
        values={"gateway": {"podAnnotations": given}},
    )
    assert rendered.count("prometheus.io/scrape") == 2, "gateway and operator, once each"


@pytest.mark.parametrize("values", [{}, _EVERYTHING], ids=["defaults", "everything"])
def test_a_real_api_server_accepts_every_object(
    helm: Path, apiserver: ControlPlane, values: dict[str, Any]
) -> None:
    documents = [
        document
        for document in _render(helm, values)
        if "helm.sh/hook" not in document["metadata"].get("annotations", {})
    ]
    apiserver.kubectl("apply", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(documents))


def test_all_pods_pass_the_restricted_pod_security_standard(
    helm: Path, apiserver: ControlPlane
) -> None:
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": "restricted",
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    apiserver.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    for document in _render(helm):
        if document["kind"] not in ("Deployment", "Pod"):
            continue
        spec = document["spec"].get("template", document)["spec"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": dict(spec)}
        pod["spec"].pop("serviceAccountName", None)
        apiserver.kubectl(
            "create", "--dry-run=server", "-n", "restricted", "-f", "-", stdin=json.dumps(pod)
        )


def test_crds_stay_when_the_release_goes(helm: Path) -> None:
    crds = [one for one in _render(helm) if one["kind"] == "CustomResourceDefinition"]
    assert len(crds) == 2
    for crd in crds:
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_an_operator_may_write_secrets_but_never_read_them(helm: Path) -> None:
    verbs: set[str] = set()
    for document in _render(helm):
        for rule in document.get("rules") or []:
            if "secrets" in rule["resources"]:
                verbs |= set(rule["verbs"])
    assert verbs == {"create", "patch"}


def test_every_worker_of_a_gateway_is_scraped_by_itself(helm: Path) -> None:
    wanted = {"monitoring": {"podMonitors": True}, "gateway": {"workers": 3}}
    documents = _render(helm, wanted)
    [container] = _pod(documents, "gateway")["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    monitors = [one for one in documents if one["kind"] == "PodMonitor"]
    endpoints = {one["metadata"]["name"]: one["spec"]["podMetricsEndpoints"] for one in monitors}
    scraped = [ports[endpoint["port"]] for endpoint in endpoints["stoker-gateway"]]
    assert scraped == [8090, 8091, 8092]
    assert endpoints.keys() == {"stoker-gateway", "stoker-operator", "stoker-runtime"}


def test_alerts_know_how_many_workers_there_are_and_labels_are_added(helm: Path) -> None:
    wanted = {"monitoring": {"alerts": True, "dashboard": True, "labels": {"release": "mine"}}}
    found = {one["kind"]: one for one in _render(helm, wanted)}
    rules = found["PrometheusRule"]["spec"]["groups"][0]["rules"]
    assert any(rule["expr"].endswith("< 4") for rule in rules)
    assert found["PrometheusRule"]["metadata"]["labels"]["release"] == "mine"
    assert json.loads(found["ConfigMap"]["data"]["stoker.json"])["title"] == "Stoker"
    assert not any(one["kind"] in ("PodMonitor", "PrometheusRule") for one in _render(helm))


def test_a_key_of_ones_own_is_used_and_none_is_made(helm: Path) -> None:
    keys = {"internalKey": {"existingSecret": "mine"}, "gateway": {"apiKey": {"required": False}}}
    documents = _render(helm, keys)
    assert not any(one["kind"] == "Secret" for one in documents)
    for name in ("operator", "gateway"):
        volumes = _pod(documents, name)["spec"]["volumes"]
        assert volumes[0]["secret"]["secretName"] == "mine"


def test_a_gateway_may_only_list_and_watch(helm: Path) -> None:
    [role] = [
        one
        for one in _render(helm)
        if one["kind"] == "ClusterRole" and one["metadata"]["name"].endswith("gateway")
    ]
    assert [rule["verbs"] for rule in role["rules"]] == [["list", "watch"]] * 2


def test_who_may_edit_a_namespace_may_edit_its_models_and_who_views_it_only_sees_them(
    helm: Path,
) -> None:
    label = "rbac.authorization.k8s.io/aggregate-to-"
    found = {
        name.removeprefix(label): one["rules"][0]
        for one in _render(helm)
        for name in one["metadata"].get("labels", {})
        if name.startswith(label)
    }
    assert found["view"]["verbs"] == ["get", "list", "watch"]
    assert "create" in found["edit"]["verbs"]
    for rule in found.values():
        assert {"llmdeployments", "warmpools"} <= set(rule["resources"])
        assert not any(resource.endswith("/status") for resource in rule["resources"])
    for without in ({"userRoles": False}, {"crds": {"install": False}}):
        assert label not in str(_render(helm, without))
