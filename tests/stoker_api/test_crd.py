"""The generated CRDs: up to date, documented, bounded, and structural."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker_api.crd import FOLDERS, build_crds, main, render_all
from stoker_api.status import LLMDeploymentStatus

ROOT = Path(__file__).parents[2]
CRDS = {crd["spec"]["names"]["kind"]: crd for crd in build_crds()}
VERSIONS = {kind: crd["spec"]["versions"][0] for kind, crd in CRDS.items()}
SCHEMAS = {kind: version["schema"]["openAPIV3Schema"] for kind, version in VERSIONS.items()}

FORBIDDEN = {"$ref", "$defs", "title", "uniqueItems", "oneOf", "allOf", "not", "prefixItems"}
MAX_BYTES = 262_144
"""What the annotation of a client-side `kubectl apply` may hold."""


def walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every node of a schema with its dotted path."""
    yield path, schema
    for name, part in schema.get("properties", {}).items():
        yield from walk(part, f"{path}.{name}")
    for key, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        if key in schema:
            yield from walk(schema[key], f"{path}{suffix}")


NODES = [node for kind, schema in SCHEMAS.items() for node in walk(schema, kind)]
FIELDS = [(path, node) for path, node in NODES if path[-1] not in "]}"]
SPEC_FIELDS = [(path, node) for path, node in NODES if ".spec" in path]


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_files_are_what_the_models_make(folder: str) -> None:
    present = {path.name: path.read_text() for path in (ROOT / folder).glob("*.yaml")}
    assert present == render_all(), "run `make crds`"


def test_make_crds_writes_every_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    main()
    written = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.yaml")}
    assert written == {f"{folder}/{name}" for folder in FOLDERS for name in render_all()}


@pytest.mark.parametrize(("path", "node"), FIELDS, ids=[path for path, _ in FIELDS])
def test_every_field_is_explained_in_sentences(path: str, node: dict[str, Any]) -> None:
    if path.endswith(".metadata"):
        return
    text = node["description"]
    assert text.endswith((".", ".`"))
    assert len(text) >= 11
    assert "\n" not in text


def test_everything_a_user_can_send_is_bounded() -> None:
    bounds = {
        "string": {"maxLength", "enum"},
        "array": {"maxItems"},
        "object": {"properties", "maxProperties"},
        "integer": {"maximum"},
        "boolean": {"type"},
    }
    unbounded = [
        path
        for path, node in SPEC_FIELDS
        if "type" in node and not bounds[node["type"]] & node.keys()
    ]
    assert unbounded == []


def test_lists_say_how_two_writers_merge_them() -> None:
    lists = {path: node for path, node in NODES if node.get("type") == "array"}
    assert [path for path, node in lists.items() if "x-kubernetes-list-type" not in node] == []


def test_every_node_is_structural() -> None:
    for path, node in NODES:
        assert not FORBIDDEN & node.keys(), path
        assert isinstance(node.get("type"), str) or node.get("x-kubernetes-int-or-string"), path
        assert not ("properties" in node and "additionalProperties" in node), path


def test_every_rule_words_its_refusal_with_the_value() -> None:
    found = [rule for _, node in NODES for rule in node.get("x-kubernetes-validations", [])]
    assert len(found) > 20
    for rule in found:
        assert "was %s" in rule["messageExpression"]
        assert ".format([self" in rule["messageExpression"]


def test_defaults_that_a_user_sees_in_the_object() -> None:
    found = {path: node["default"] for path, node in NODES if "default" in node}
    assert {path.removeprefix("LLMDeployment.spec."): value for path, value in found.items()} == {
        "model.quantization": "Auto",
        "engine": {},
        "engine.kvCacheDtype": "Auto",
        "engine.prefixCaching": True,
        "resources": {},
        "resources.gpus": 1,
        "resources.gpuResourceName": "nvidia.com/gpu",
        "scaling.minReplicas": 0,
        "scaling.maxReplicas": 10,
        "scaling.targetQueueDepth": 5,
        "scaling.idleTimeout": "5m",
        "scaling.coldStartTimeout": "2m",
        "WarmPool.spec": {},
        "WarmPool.spec.size": {},
        "WarmPool.spec.size.min": 1,
        "WarmPool.spec.resources": {},
        "WarmPool.spec.resources.gpus": 1,
        "WarmPool.spec.resources.gpuResourceName": "nvidia.com/gpu",
    }


def test_columns_and_short_names_are_those_of_the_manual() -> None:
    columns = [
        column["name"]
        for column in VERSIONS["LLMDeployment"]["additionalPrinterColumns"]
        if not column.get("priority")
    ]
    assert columns == ["Ready", "Reason", "Replicas", "Model", "URL", "Age"]
    assert CRDS["LLMDeployment"]["spec"]["names"]["shortNames"] == ["llm"]
    assert CRDS["WarmPool"]["spec"]["names"]["shortNames"] == ["wp"]
    assert CRDS["WarmPool"]["spec"]["names"]["categories"] == ["all", "stoker"]


def test_columns_show_fields_that_exist() -> None:
    for kind, version in VERSIONS.items():
        known = {path for path, _ in walk(SCHEMAS[kind], "")}
        for column in version["additionalPrinterColumns"]:
            path = column["jsonPath"].partition("[?")[0]
            assert path in known or path == ".metadata.creationTimestamp"


def test_scale_points_at_fields_that_exist() -> None:
    scale = VERSIONS["LLMDeployment"]["subresources"]["scale"]
    known = {path for path, _ in walk(SCHEMAS["LLMDeployment"], "")}
    assert set(scale.values()) <= known
    assert "scale" not in VERSIONS["WarmPool"]["subresources"]


def test_conditions_are_merged_by_type() -> None:
    for schema in SCHEMAS.values():
        conditions = schema["properties"]["status"]["properties"]["conditions"]
        assert conditions["x-kubernetes-list-type"] == "map"
        assert conditions["x-kubernetes-list-map-keys"] == ["type"]
        assert "type" in conditions["items"]["required"]


def test_every_status_field_of_the_model_is_in_the_crd() -> None:
    fields = {field.alias for field in LLMDeploymentStatus.model_fields.values()}
    assert SCHEMAS["LLMDeployment"]["properties"]["status"]["properties"].keys() == fields


def test_crds_stay_when_the_chart_goes() -> None:
    for crd in CRDS.values():
        assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_the_text_reads_back_as_the_manifest_and_is_small() -> None:
    for crd in CRDS.values():
        text = render_all()[f"{crd['metadata']['name']}.yaml"]
        assert yaml.safe_load(text) == crd
        assert "&id" not in text
        assert len(text) < MAX_BYTES / 4


def test_keys_of_list_maps_are_required_or_have_a_default() -> None:
    """A real API server refuses the whole CRD otherwise."""
    lists = [(path, node) for path, node in NODES if "x-kubernetes-list-map-keys" in node]
    assert lists
    for path, node in lists:
        item = node["items"]
        for key in node["x-kubernetes-list-map-keys"]:
            named = key in item.get("required", ()) or "default" in item["properties"][key]
            assert named, f"{path}: {key}"
