"""The two resources as pydantic models: defaults, exclusivity, refusals, tolerance."""

from typing import Any

import pytest
from pydantic import ValidationError

from stoker_api.v1alpha1 import (
    KvCacheDtype,
    LLMDeployment,
    LLMDeploymentSpec,
    Quantization,
    Scaling,
    WarmPool,
)
from support.refusals import REFUSALS, Refusal, make_object

KINDS = {"LLMDeployment": LLMDeployment, "WarmPool": WarmPool}


def parse_spec(**spec: Any) -> LLMDeploymentSpec:
    return LLMDeployment.model_validate(make_object("LLMDeployment", **spec)).spec


def test_a_source_is_all_that_has_to_be_said() -> None:
    spec = parse_spec()
    assert spec.model.quantization is Quantization.AUTO
    assert spec.engine.kv_cache_dtype is KvCacheDtype.AUTO
    assert spec.engine.prefix_caching
    assert (spec.resources.gpus, spec.resources.gpu_resource_name) == (1, "nvidia.com/gpu")
    assert (spec.replicas, spec.scaling) == (None, None)


def test_without_replicas_and_scaling_the_defaults_of_scaling_hold() -> None:
    policy = parse_spec().autoscaling
    assert policy == Scaling()
    assert (policy.min_replicas, policy.max_replicas, policy.target_queue_depth) == (0, 10, 5)
    assert (policy.idle_timeout_s, policy.cold_start_timeout_s) == (300.0, 120.0)


def test_scaling_that_is_given_is_the_policy() -> None:
    policy = parse_spec(scaling={"minReplicas": 1, "idleTimeout": "90s"}).autoscaling
    assert policy is not None
    assert (policy.min_replicas, policy.max_replicas, policy.idle_timeout_s) == (1, 10, 90.0)


@pytest.mark.parametrize("replicas", [0, 3])
def test_a_fixed_size_has_no_policy(replicas: int) -> None:
    spec = parse_spec(replicas=replicas)
    assert spec.replicas == replicas
    assert spec.autoscaling is None


@pytest.mark.parametrize(
    ("gpus", "given", "parallel"), [(0, None, 1), (0, 1, 1), (1, None, 1), (4, None, 4), (4, 4, 4)]
)
def test_a_replica_is_split_over_all_its_gpus(gpus: int, given: int | None, parallel: int) -> None:
    engine = {} if given is None else {"tensorParallel": given}
    assert parse_spec(resources={"gpus": gpus}, engine=engine).tensor_parallel == parallel


def test_the_served_name_is_the_objects_name_unless_given() -> None:
    assert LLMDeployment.model_validate(make_object("LLMDeployment")).served_name == "chat"
    named = make_object("LLMDeployment", model={"source": "hf://a/b", "servedName": "a/b"})
    assert LLMDeployment.model_validate(named).served_name == "a/b"


def test_the_key_is_namespace_and_name() -> None:
    assert LLMDeployment.model_validate(make_object("LLMDeployment")).key == "default/chat"


def test_the_source_comes_apart() -> None:
    source = parse_spec().model.parsed_source
    assert (source.scheme, source.location, source.path) == ("pvc", "models", "tiny-chat")


def test_quantities_may_be_numbers_or_text() -> None:
    resources = parse_spec(resources={"cpu": 2, "memory": "1.5Gi"}).resources
    assert (resources.cpu, resources.memory) == (2, "1.5Gi")


def test_fields_of_a_newer_release_are_ignored_everywhere() -> None:
    newer = make_object("LLMDeployment", scaling={"minReplicas": 1, "prediction": {"on": True}})
    newer["status"] = {"phase": "Dreaming", "replicas": 1, "novel": [1], "scaling": {"x": 1}}
    parsed = LLMDeployment.model_validate(newer)
    assert parsed.spec.autoscaling == Scaling(min_replicas=1)
    assert parsed.status.phase == "Dreaming"


def test_what_was_parsed_is_written_as_it_came() -> None:
    given = make_object("LLMDeployment", scaling={"minReplicas": 1, "idleTimeout": "1h30m"})
    parsed = LLMDeployment.model_validate(given)
    written = parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written == given


def test_a_warm_pool_needs_nothing() -> None:
    pool = WarmPool.model_validate({"kind": "WarmPool", "metadata": {"name": "shared"}})
    assert (pool.spec.size.min, pool.spec.size.max, pool.spec.preload) == (1, None, [])


def test_objects_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        parse_spec().replicas = 3


# What only Kubernetes itself checks: names of objects, duplicates in its set lists.
NOT_OURS = {"name too long", "name starting with a digit", "name with dots", "pool's name"}
SETS = {"preload twice"}
PYTHONIC = [refusal for refusal in REFUSALS if refusal.id not in NOT_OURS | SETS]


@pytest.mark.parametrize("refusal", PYTHONIC, ids=lambda refusal: refusal.id)
def test_refuses_by_field_and_value_what_the_api_server_refuses(refusal: Refusal) -> None:
    with pytest.raises(ValidationError) as error:
        KINDS[refusal.kind].model_validate(refusal.manifest)
    [first, *_] = error.value.errors()
    named = ".".join(str(part) for part in first["loc"])
    assert named.startswith("spec")
    assert refusal.path.rpartition(".")[2] in f"{named} {first['msg']}"
    assert refusal.words.partition("was ")[2] in str(error.value)
