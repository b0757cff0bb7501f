"""Labels, owners, and the template hash that no upgrade of the operator may change."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_operator.build.metadata import (
    build_metadata,
    derive_pool_hash,
    derive_template_hash,
    format_pool_selector,
    format_selector,
    pick_guard_name,
    select_pods,
)
from support.builders import make_llm, make_warm_pool


def _hash(**spec: Any) -> str:
    return derive_template_hash(make_llm(**spec).spec)


def test_the_hashes_of_these_specs_never_change() -> None:
    assert _hash() == "4907c8f6"
    engine = {"maxModelLen": 4096, "image": "mine:1"}
    assert _hash(engine=engine, resources={"gpus": 1, "memory": "16Gi"}) == "ea3fb84a"


@pytest.mark.parametrize(
    "spec",
    [
        {"scaling": {"idleTimeout": "1h", "maxReplicas": 3}},
        {"replicas": 3},
        {"engine": {"prefixCaching": True, "kvCacheDtype": "Auto"}},
        {"model": {"source": "pvc://models/tiny", "quantization": "Auto"}},
        {"pod": {"labels": {}}},
    ],
    ids=["scaling", "replicas", "engine-defaults", "model-defaults", "empty-pod"],
)
def test_what_no_pod_is_made_from_keeps_the_pods(spec: dict[str, Any]) -> None:
    assert _hash(**spec) == _hash()


@pytest.mark.parametrize(
    "spec",
    [
        {"model": {"source": "pvc://models/other"}},
        {"model": {"source": "pvc://models/tiny", "servedName": "x"}},
        {"engine": {"maxModelLen": 1024}},
        {"engine": {"extraArgs": ["--seed=1"]}},
        {"resources": {"gpus": 0, "memory": "2Gi"}},
        {"pod": {"annotations": {"a": "b"}}},
    ],
    ids=["source", "served-name", "length", "args", "memory", "annotation"],
)
def test_what_pods_are_made_from_replaces_them(spec: dict[str, Any]) -> None:
    assert _hash(**spec) != _hash()


def test_children_belong_to_the_deployment_and_carry_no_finalizer() -> None:
    metadata = build_metadata(make_llm(), "chat-pods")
    [owner] = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("LLMDeployment", "chat", "uid-1")
    assert owner["controller"] is True
    assert "finalizers" not in metadata


def test_the_selector_as_text_chooses_the_children() -> None:
    labels = build_metadata(make_llm(), "x")["labels"]
    wanted = dict(part.split("=") for part in format_selector("chat").split(","))
    assert wanted.items() <= labels.items()


def test_a_pools_hash_follows_what_standbys_are_made_from() -> None:
    def of(*claims: str, **spec: Any) -> str:
        return derive_pool_hash(make_warm_pool(**spec).spec, claims)

    assert of("a", "b") == of("b", "a") == of("a", "b", size={"min": 3, "max": 9})
    others = [
        of("a"),
        of("a", "b", resources={"gpus": 1}),
        of("a", "b", preload=["pvc://a/x"]),
        of("a", "b", hostMemory="1Gi"),
        of("a", "b", engine={"image": "mine:1"}),
        of("a", "b", pod={"labels": {"a": "b"}}),
    ]
    assert len({of("a", "b"), *others}) == 7


def test_children_of_a_pool_belong_to_it_under_names_of_their_own() -> None:
    pool = make_warm_pool()
    metadata = build_metadata(pool, pick_guard_name(pool))
    [owner] = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("WarmPool", "shared", "uid-2")
    assert metadata["name"] == "shared-pool"
    assert pick_guard_name(make_llm()) == "chat-runtime"
    assert select_pods(pool).items() <= metadata["labels"].items()
    assert "!stoker.dev/deployment" in format_pool_selector("shared").split(",")
