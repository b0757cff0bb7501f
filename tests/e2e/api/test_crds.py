"""The CRDs as a real API server sees them: what it accepts, defaults, refuses, scales, explains."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from e2e.harness.apiserver import ControlPlane
from e2e.harness.kubectl import Kubectl, KubectlError
from stoker_api.conditions import Condition, Reason, format_instant
from stoker_api.v1alpha1 import MAX_NAME, LLMDeployment, WarmPool
from support.refusals import REFUSALS, Refusal, make_object

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
CRDS = ("crd/llmdeployments.stoker.dev", "crd/warmpools.stoker.dev")


@pytest.fixture(scope="session")
def kubectl(apiserver: ControlPlane) -> Kubectl:
    """A `kubectl` on an API server that knows our CRDs."""
    apiserver.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    apiserver.kubectl("wait", "--for=condition=Established", *CRDS)
    return apiserver.kubectl


def make_stored(kubectl: Kubectl, manifest: dict[str, Any]) -> dict[str, Any]:
    """What the server would store."""
    options = ("--dry-run=server", "--output=json", "--filename=-")
    stored: dict[str, Any] = json.loads(kubectl("create", *options, stdin=json.dumps(manifest)))
    return stored


def make_named(name: str, **spec: Any) -> dict[str, Any]:
    return {**make_object("LLMDeployment", **spec), "metadata": {"name": name}}


def test_the_crds_are_established_and_have_no_complaints(kubectl: Kubectl) -> None:
    for crd in CRDS:
        conditions = {c["type"]: c["status"] for c in kubectl.get(crd)["status"]["conditions"]}
        assert conditions == {"NamesAccepted": "True", "Established": "True"}, (
            "structural, no warnings"
        )


def test_applying_the_crds_again_changes_nothing(kubectl: Kubectl) -> None:
    before = [kubectl.get(crd)["metadata"]["generation"] for crd in CRDS]
    kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    assert [kubectl.get(crd)["metadata"]["generation"] for crd in CRDS] == before


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.id)
def test_refuses_by_field_and_value(kubectl: Kubectl, refusal: Refusal) -> None:
    with pytest.raises(KubectlError) as error:
        make_stored(kubectl, refusal.manifest)
    message = str(error.value)
    assert (refusal.named or refusal.path) in message
    assert refusal.words in message


def test_a_misspelt_field_is_named(kubectl: Kubectl) -> None:
    wrong = make_object("LLMDeployment", scaling={"minReplica": 1})
    with pytest.raises(KubectlError, match=r'unknown field "spec\.scaling\.minReplica"'):
        make_stored(kubectl, wrong)


def test_a_correct_object_stays_correct_when_only_its_status_is_written(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("patched"))
    status = {"status": {"replicas": 1, "phase": "Serving"}}
    kubectl(
        "patch", "llm/patched", "--subresource=status", "--type=merge", "-p", json.dumps(status)
    )
    found = kubectl.get("llm/patched")
    assert (found["status"]["replicas"], found["metadata"]["generation"]) == (1, 1)


@pytest.mark.parametrize(
    "manifest",
    [
        make_object("LLMDeployment"),
        make_object("LLMDeployment", scaling={}),
        make_object("LLMDeployment", scaling={"minReplicas": 10, "idleTimeout": "1h30m"}),
        make_object("LLMDeployment", replicas=0),
        make_object("LLMDeployment", resources={"gpus": 4, "cpu": 8, "memory": "64Gi"}),
        make_object("LLMDeployment", resources={"gpus": 0}, engine={"tensorParallel": 1}),
        make_object("LLMDeployment", engine=None, pod={"labels": {"team": "a"}}),
        make_named("x" * MAX_NAME, engine={"extraArgs": ["--seed=7"]}),
        make_object("WarmPool"),
        make_object("WarmPool", size={"min": 3}, preload=["hf://a/b", "hf://a/c"]),
        make_object("WarmPool", size={"min": 0, "max": 0}, hostMemory=2**36),
    ],
    ids=lambda manifest: json.dumps(manifest["spec"])[:60],
)
def test_the_servers_defaults_are_those_of_the_models(
    kubectl: Kubectl, manifest: dict[str, Any]
) -> None:
    model = LLMDeployment if manifest["kind"] == "LLMDeployment" else WarmPool
    given = {key: value for key, value in manifest["spec"].items() if value is not None}
    stored = make_stored(kubectl, manifest)
    assert (
        model.model_validate(stored).spec == model.model_validate({**manifest, "spec": given}).spec
    )


def test_defaults_are_visible_and_leave_the_exclusive_fields_alone(kubectl: Kubectl) -> None:
    spec = make_stored(kubectl, make_object("LLMDeployment"))["spec"]
    assert spec == {
        "model": {"source": "pvc://models/tiny-chat", "quantization": "Auto"},
        "engine": {"kvCacheDtype": "Auto", "prefixCaching": True},
        "resources": {"gpus": 1, "gpuResourceName": "nvidia.com/gpu"},
    }


def test_scaling_that_is_begun_is_completed(kubectl: Kubectl) -> None:
    spec = make_stored(kubectl, make_object("LLMDeployment", scaling={"minReplicas": 1}))["spec"]
    assert spec["scaling"] == {
        "minReplicas": 1,
        "maxReplicas": 10,
        "targetQueueDepth": 5,
        "idleTimeout": "5m",
        "coldStartTimeout": "2m",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_samples_are_accepted_and_understood(kubectl: Kubectl, path: Path) -> None:
    kubectl("apply", "--server-side", "--dry-run=server", "-f", str(path))
    for manifest in yaml.safe_load_all(path.read_text()):
        if manifest["kind"] == "LLMDeployment":
            assert LLMDeployment.model_validate(manifest).spec.model.parsed_source


def test_a_fixed_size_can_be_scaled(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("fixed", replicas=2))
    kubectl("scale", "llm/fixed", "--replicas=3")
    assert kubectl.get("llm/fixed")["spec"]["replicas"] == 3
    status = {"status": {"replicas": 2, "selector": "stoker.dev/deployment=fixed"}}
    kubectl("patch", "llm/fixed", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    scale = kubectl.get("llm/fixed", "--subresource=scale")
    assert scale["kind"] == "Scale"
    assert scale["spec"]["replicas"] == 3
    assert scale["status"] == {"replicas": 2, "selector": "stoker.dev/deployment=fixed"}


def test_scaling_by_hand_what_scales_itself_is_refused(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("auto", scaling={"maxReplicas": 3}))
    with pytest.raises(KubectlError, match="excludes scaling: give one of them, was 2"):
        kubectl("scale", "llm/auto", "--replicas=2")


def test_a_deployment_that_said_nothing_can_be_fixed_by_scaling(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("silent"))
    kubectl("scale", "llm/silent", "--replicas=2")
    assert kubectl.get("llm/silent")["spec"]["replicas"] == 2


def make_status(ready: str, reason: Reason, generation: int = 1, **fields: Any) -> str:
    condition = Condition(
        type="Ready",
        status=ready,
        reason=reason,
        last_transition_time=format_instant(1.8e9),
        observed_generation=generation,
    )
    return json.dumps({"status": {"conditions": [condition.model_dump(by_alias=True)], **fields}})


def test_the_list_shows_what_a_user_asks_first(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("listed"))
    status = make_status("True", Reason.SCALED_TO_ZERO, replicas=0, url="http://gateway/v1")
    kubectl("patch", "llm/listed", "--subresource=status", "--type=merge", "-p", status)
    head, row = kubectl("get", "llm", "listed").splitlines()
    assert head.split() == ["NAME", "READY", "REASON", "REPLICAS", "MODEL", "URL", "AGE"]
    shown = ["listed", "True", "ScaledToZero", "0", "pvc://models/tiny-chat", "http://gateway/v1"]
    assert row.split()[:6] == shown
    wide = kubectl("get", "llm", "listed", "-o", "wide").splitlines()[0]
    assert re.search(r"AVAILABLE +DESIRED +COLD START +WHY", wide)


def test_it_can_be_waited_for_like_anything_else(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("awaited"))
    status = make_status("True", Reason.SERVING)
    kubectl("patch", "llm/awaited", "--subresource=status", "--type=merge", "-p", status)
    assert "condition met" in kubectl("wait", "--for=condition=Ready", "llm/awaited")


def test_waiting_is_not_fooled_by_what_was_true_of_an_older_spec(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("outdated"))
    status = make_status("True", Reason.SERVING, generation=0)
    kubectl("patch", "llm/outdated", "--subresource=status", "--type=merge", "-p", status)
    with pytest.raises(KubectlError, match="timed out"):
        kubectl("wait", "--for=condition=Ready", "--timeout=1s", "llm/outdated")


def test_both_kinds_are_found_by_short_names_and_categories(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("found"), {**make_object("WarmPool"), "metadata": {"name": "pool"}})
    for category in ("all", "stoker"):
        names = kubectl("get", category, "-o", "name").split()
        assert {"llmdeployment.stoker.dev/found", "warmpool.stoker.dev/pool"} <= set(names)
    assert "STANDBY" in kubectl("get", "wp")


def test_a_condition_without_its_date_is_refused(kubectl: Kubectl) -> None:
    kubectl.apply(make_named("undated"))
    condition = {"type": "Ready", "status": "True", "reason": "X", "lastTransitionTime": "today"}
    patch = json.dumps({"status": {"conditions": [condition]}})
    with pytest.raises(KubectlError, match="lastTransitionTime"):
        kubectl("patch", "llm/undated", "--subresource=status", "--type=merge", "-p", patch)


def test_explain_reads_like_a_manual(kubectl: Kubectl) -> None:
    text = " ".join(kubectl("explain", "llmdeployment.spec.scaling").split())
    for field in ("minReplicas", "maxReplicas", "idleTimeout", "coldStartTimeout", "warmPool"):
        assert f"{field} <" in text
    assert "How long nobody may ask before replicas beyond `minReplicas` are stopped" in text
    assert "<no description>" not in kubectl("explain", "llm", "--recursive")
    assert "The longest that a request is held" in " ".join(
        kubectl("explain", "llm.spec.scaling.coldStartTimeout").split()
    )


def mutate(value: str, dice: random.Random) -> str:
    """The same text with one character changed, removed, doubled or added."""
    at = dice.randrange(len(value))
    sign = dice.choice("aZ0-./:@_ =+%é\t")
    return dice.choice(
        [
            value[:at] + sign + value[at + 1 :],
            value[:at] + value[at + 1 :],
            value[:at] + value[at] + value[at:],
            value[:at] + sign + value[at:],
        ]
    )


SEEDS = {
    "model.source": ["hf://org/name@v1/a", "s3://my-bucket/a/b", "https://h:1/a", "pvc://c/a/b"],
    "model.servedName": ["meta/llama-3:8b"],
    "engine.image": ["host:5000/runtime:1.0"],
    "resources.memory": ["1.5Gi", "500m", "16"],
    "resources.gpuResourceName": ["nvidia.com/gpu"],
    "scaling.idleTimeout": ["1h30m", "90s", "0.5s", "168h"],
    "scaling.warmPool": ["a-b"],
    "pod.nodeSelector": ["a.org/b-c"],
    "pod.runtimeClassName": ["a.b-c"],
}


def make_mutants(count: int) -> list[dict[str, Any]]:
    """Objects that differ from a correct one in one character of one field."""
    dice = random.Random(20)
    mutants = []
    for number in range(count):
        room, field = dice.choice(sorted(SEEDS)).split(".")
        value: Any = mutate(dice.choice(SEEDS[f"{room}.{field}"]), dice)
        value = {"warmPool": {"name": value}, "nodeSelector": {value: "x"}}.get(field, value)
        manifest = make_named(f"mutant-{number}")
        manifest["spec"].setdefault(room, {})[field] = value
        mutants.append(manifest)
    return mutants


def is_refused(manifest: dict[str, Any]) -> bool:
    """Whether pydantic refuses the object."""
    try:
        LLMDeployment.model_validate(manifest)
    except ValidationError:
        return True
    return False


def test_pydantic_and_the_api_server_agree_on_every_mutant(kubectl: Kubectl) -> None:
    mutants = make_mutants(400)
    listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": mutants})
    with pytest.raises(KubectlError) as error:
        kubectl("create", "--dry-run=server", "--output=name", "--filename=-", stdin=listed)
    by_server = set(re.findall(r'"(mutant-\d+)" is invalid', str(error.value)))
    by_pydantic = {m["metadata"]["name"] for m in mutants if is_refused(m)}
    differing = [m for m in mutants if m["metadata"]["name"] in by_server ^ by_pydantic]
    assert [manifest["spec"] for manifest in differing] == []
    assert 100 < len(by_server) < 350
