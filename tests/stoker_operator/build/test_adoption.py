"""The changes that make a standby a replica and a replica a standby, and the order to load."""

from __future__ import annotations

from typing import Any

from stoker_operator.build.adoption import (
    build_adoption,
    build_load,
    build_return,
    build_shared_key,
)
from stoker_operator.build.pod import PodOrder
from support.builders import make_llm, make_warm_pool

ORDER = PodOrder("", "abcd1234", asked_at=1.5, decided_at=2.25)


def _pod(**metadata: Any) -> dict[str, Any]:
    labels = {"stoker.dev/pool": "shared", "stoker.dev/pool-template": "t", "team": "pool"}
    own = {"name": "p", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": labels}
    return {"metadata": own | metadata}


def test_a_change_is_meant_for_the_very_version_that_was_seen() -> None:
    for change in (
        build_adoption(make_llm(), _pod(), ORDER),
        build_return(make_warm_pool(), _pod()),
    ):
        guards = {key: change["metadata"][key] for key in ("uid", "resourceVersion")}
        assert guards == {"uid": "u", "resourceVersion": "7"}


def test_an_adopted_pod_has_one_owner_and_says_when_it_was_taken() -> None:
    pod = {"labels": {"team": "mine", "a": "b"}, "annotations": {"note": "x"}}
    change = build_adoption(make_llm(pod=pod), _pod(), ORDER)["metadata"]
    assert [owner["kind"] for owner in change["ownerReferences"]] == ["LLMDeployment"]
    assert change["labels"]["stoker.dev/deployment"] == "chat"
    assert change["labels"]["stoker.dev/template"] == "abcd1234"
    assert change["labels"]["stoker.dev/pool"] == "shared"
    assert (change["labels"]["a"], change["labels"]["team"]) == ("b", "pool")
    assert change["annotations"]["stoker.dev/decided-at"] == "2.250000"
    assert change["annotations"]["stoker.dev/address"] is None
    assert change["annotations"]["note"] == "x"


def test_nothing_of_a_deployment_stays_on_a_pod_that_returns() -> None:
    labels = _pod()["metadata"]["labels"] | {"stoker.dev/deployment": "chat", "a": "b"}
    marks = {"stoker.dev/released-at": "3", "note": "x"}
    pool = make_warm_pool(pod={"labels": {"team": "pool"}, "annotations": {"kept": "1"}})
    change = build_return(pool, _pod(labels=labels, annotations=marks))["metadata"]
    assert [owner["kind"] for owner in change["ownerReferences"]] == ["WarmPool"]
    assert change["labels"]["stoker.dev/deployment"] is None
    assert change["labels"]["a"] is None
    assert change["labels"]["stoker.dev/pool-template"] == "t"
    assert change["labels"]["team"] == "pool"
    assert change["annotations"]["note"] is None
    assert change["annotations"]["stoker.dev/released-at"] is None
    assert change["annotations"]["kept"] == "1"


def test_an_order_says_what_a_fresh_pods_flags_say() -> None:
    engine = {
        "maxModelLen": 4096,
        "maxNumSeqs": 1024,
        "prefixCaching": False,
        "extraArgs": ["--seed=7", "--dtype=float32"],
    }
    model = {"source": "pvc://models/tiny", "servedName": "t", "quantization": "Int8"}
    assert build_load(make_llm(model=model, engine=engine), "k") == {
        "model": "/models/models/tiny",
        "servedName": "t",
        "deployment": "chat",
        "token": "k",
        "quantization": "int8",
        "maxModelLen": 4096,
        "maxNumSeqs": 1024,
        "maxBatchedTokens": 1024,
        "prefixCaching": 0,
        "seed": 7,
        "dtype": "float32",
    }


def test_where_pods_take_any_order_there_is_no_key_in_it() -> None:
    assert "token" not in build_load(make_llm(), None)


def test_a_pools_key_is_shared_with_the_pod_and_controlled_by_the_pool_alone() -> None:
    pod = {"metadata": {"name": "p", "namespace": "ns", "uid": "u"}}
    pod["metadata"]["labels"] = {"stoker.dev/pool": "shared"}  # type: ignore[assignment]
    [owner] = build_shared_key(pod)["metadata"]["ownerReferences"]
    assert owner == {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u"}
    assert build_shared_key(pod)["metadata"]["name"] == "shared-pool"
