"""Runtime pods against expected manifests, and the promises that a reader should find in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from stoker_operator.build.frame import PodSettings
from stoker_operator.build.pod import PodOrder, build_args, build_pod
from support.builders import make_llm
from support.golden import check_golden

SETTINGS = PodSettings(
    image_cpu="stoker-runtime:1-cpu",
    image_gpu="stoker-runtime:1-gpu",
    pull_policy="IfNotPresent",
    drain_deadline_s=600,
    announce_url="http://10.96.0.7:8090/internal/announce",
)
ORDER = PodOrder("chat-abcd1234-0", "abcd1234", asked_at=1795255200.25, decided_at=1795255200.5)

SPECS: dict[str, dict[str, Any]] = {
    "pod-cpu": {},
    "pod-gpu": {
        "model": {"source": "pvc://models/llama/8b", "servedName": "llama"},
        "engine": {"maxModelLen": 8192, "maxNumSeqs": 1024, "extraArgs": ["--seed=7"]},
        "resources": {"gpus": 1, "cpu": 4, "memory": "16Gi"},
        "pod": {
            "nodeSelector": {"gpu": "h200"},
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
            "labels": {"team": "search"},
            "annotations": {"note": "kept"},
            "priorityClassName": "high",
            "runtimeClassName": "nvidia",
        },
    },
    "pod-gpus": {
        "model": {"source": "pvc://models/llama/70b"},
        "engine": {"tensorParallel": 4},
        "resources": {"gpus": 4, "cpu": 16, "memory": "64Gi"},
    },
}


@pytest.mark.parametrize("name", SPECS)
def test_golden_pods(name: str) -> None:
    check_golden(name, [build_pod(make_llm(**SPECS[name]), ORDER, SETTINGS)])


def _pod(**spec: Any) -> dict[str, Any]:
    return build_pod(make_llm(**spec), ORDER, SETTINGS)


def test_meets_the_restricted_pod_security_standard() -> None:
    spec = _pod()["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert {"persistentVolumeClaim", "emptyDir"} == {
        kind for volume in spec["volumes"] for kind in volume if kind != "name"
    }


def test_no_probe_ends_a_pod_that_loads() -> None:
    container = _pod()["spec"]["containers"][0]
    assert "startupProbe" not in container
    liveness = container["livenessProbe"]
    assert liveness["httpGet"]["path"] == "/health"
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 120


def test_the_image_follows_the_gpus_unless_one_is_named() -> None:
    def image(**spec: Any) -> str:
        name: str = _pod(**spec)["spec"]["containers"][0]["image"]
        return name

    assert image() == "stoker-runtime:1-cpu"
    assert image(resources={"gpus": 1}) == "stoker-runtime:1-gpu"
    assert image(engine={"image": "mine:2"}) == "mine:2"


@pytest.mark.parametrize(
    ("cpu", "threads"), [(4, "--threads=4"), ("2500m", "--threads=2"), ("100m", "--threads=1")]
)
def test_threads_follow_the_cpu_that_was_asked_for(cpu: int | str, threads: str) -> None:
    llm = make_llm(resources={"gpus": 0, "cpu": cpu})
    assert threads in build_args(llm)
    resources = build_pod(llm, ORDER, SETTINGS)["spec"]["containers"][0]["resources"]
    assert "cpu" not in resources.get("limits", {})


def test_the_root_of_a_claim_may_be_the_model() -> None:
    assert "--model=/models" in build_args(make_llm(model={"source": "pvc://models"}))


def test_without_an_internal_key_there_is_no_token_to_mount() -> None:
    pod = build_pod(make_llm(), ORDER, replace(SETTINGS, with_token=False))
    assert "STOKER_TOKEN" not in {one["name"] for one in pod["spec"]["containers"][0]["env"]}
