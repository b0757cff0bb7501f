"""What a replica is given and where it may run."""

from typing import Any

import pytest
from pydantic import ValidationError

from stoker_api.placement import PodOverrides, Resources, Toleration


def test_a_replica_has_one_gpu_unless_told_otherwise() -> None:
    assert Resources() == Resources.model_validate({"gpus": 1, "gpuResourceName": "nvidia.com/gpu"})
    assert Resources.model_validate({"gpus": 0, "cpu": "500m"}).gpus == 0


@pytest.mark.parametrize("gpus", [-1, 17, 0.5, "one", None])
def test_gpus_are_a_small_whole_number(gpus: Any) -> None:
    with pytest.raises(ValidationError, match="gpus"):
        Resources.model_validate({"gpus": gpus})


def test_a_toleration_reads_as_in_a_pod() -> None:
    given = {"key": "nvidia.com/gpu", "operator": "Exists", "tolerationSeconds": 30}
    parsed = Toleration.model_validate(given)
    assert parsed.toleration_seconds == 30
    assert parsed.model_dump(by_alias=True, exclude_none=True) == given


@pytest.mark.parametrize("field", ["labels", "annotations"])
@pytest.mark.parametrize("key", ["stoker.dev/deployment", "app.kubernetes.io/managed-by"])
def test_names_that_stoker_selects_by_cannot_be_overridden(field: str, key: str) -> None:
    with pytest.raises(ValidationError, match=f"leave Stoker's own names alone, was {key}"):
        PodOverrides.model_validate({field: {"team": "a", key: "x"}})


def test_nodes_may_be_selected_by_any_label() -> None:
    selector = {"stoker.dev/pool": "a", "kubernetes.io/arch": "arm64"}
    assert PodOverrides.model_validate({"nodeSelector": selector}).node_selector == selector
