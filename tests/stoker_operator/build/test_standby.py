"""Standby pods against the expected manifest, and what must never be in one."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_api.source import parse_source
from stoker_operator.build.frame import PodSettings
from stoker_operator.build.standby import build_standby, build_standby_args, locate
from support.builders import make_warm_pool
from support.golden import check_golden

SETTINGS = PodSettings("cpu:1", "gpu:1", "IfNotPresent", 600, "http://10.96.0.7:8090/announce")
SPEC: dict[str, Any] = {
    "resources": {"gpus": 1, "cpu": 4, "memory": "96Gi"},
    "preload": ["pvc://models/llama/8b", "pvc://missing/x", "hf://org/name"],
    "hostMemory": "64Gi",
    "pod": {"nodeSelector": {"gpu": "h200"}, "labels": {"team": "search"}},
}


def _build(claims: tuple[str, ...] = ("models", "more"), **spec: Any) -> dict[str, Any]:
    return build_standby(make_warm_pool(**spec), "shared-abcd1234-0", "abcd1234", claims, SETTINGS)


def test_golden_standby() -> None:
    check_golden("standby", [_build(**SPEC)])


def test_a_standby_has_no_model_and_no_deployment() -> None:
    pod = _build()
    container = pod["spec"]["containers"][0]
    assert not [arg for arg in container["args"] if arg.startswith(("--model", "--preload"))]
    assert "STOKER_DEPLOYMENT" not in {one["name"] for one in container["env"]}
    assert "stoker.dev/deployment" not in pod["metadata"]["labels"]


def test_a_standby_meets_the_restricted_pod_security_standard() -> None:
    spec = _build(**SPEC)["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["automountServiceAccountToken"] is False
    assert spec["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert all(mount["readOnly"] for mount in spec["containers"][0]["volumeMounts"][:-1])


def test_a_pool_without_claims_has_only_its_scratch_folder() -> None:
    assert [volume["name"] for volume in _build(())["spec"]["volumes"]] == ["tmp"]


def test_what_is_preloaded_is_what_is_mounted() -> None:
    args = build_standby_args(make_warm_pool(**SPEC), ["models"])
    assert "--preload=/models/models/llama/8b" in args
    assert f"--preload-bytes={64 * 2**30}" in args


@pytest.mark.parametrize(
    ("source", "folder"),
    [("pvc://models", "/models/models"), ("pvc://models/a/b/", "/models/models/a/b")],
)
def test_each_claim_has_a_folder_of_its_own(source: str, folder: str) -> None:
    assert locate(parse_source(source)) == folder
