"""From a pydantic model to the structural schema that a CRD may contain.

Knows both dialects: references are inlined, `null` goes (absent means absent), titles go, defaults
appear only where they say something. Does not know the resources; `crd.py` calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

Schema = dict[str, Any]

_ORDER = (
    *("description", "type", "format", "enum", "default", "required", "minimum", "maximum"),
    *("properties", "items", "additionalProperties", "x-kubernetes-validations"),
)
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]


def structural_schema(model: type[BaseModel]) -> Schema:
    """The schema of one model with everything inlined."""
    raw = model.model_json_schema(by_alias=True)
    return _convert(raw, raw.get("$defs", {}))


def without_defaults(schema: Schema) -> Schema:
    """The same schema for a `status`: what nobody reported must not be invented."""
    kept = {key: value for key, value in schema.items() if key != "default"}
    return _map_parts(kept, without_defaults)


def with_spoken_defaults(schema: Schema) -> Schema:
    """The same schema with defaults in the descriptions: `kubectl explain` shows nothing else."""
    default = schema.get("default")
    if default is None or default == {}:
        return _map_parts(schema, with_spoken_defaults)
    spoken = str(default).lower() if isinstance(default, bool) else str(default)
    return {**schema, "description": f"{schema['description']} Default: {spoken}."}


def _map_parts(schema: Schema, change: Callable[[Schema], Schema]) -> Schema:
    mapped = dict(schema)
    if "properties" in mapped:
        mapped["properties"] = {key: change(part) for key, part in mapped["properties"].items()}
    for key in ("items", "additionalProperties"):
        if isinstance(mapped.get(key), dict):
            mapped[key] = change(mapped[key])
    return mapped


def _convert(node: Schema, definitions: dict[str, Schema]) -> Schema:
    node = _collapse(_inline(node, definitions), definitions)
    converted = {key: value for key, value in node.items() if key not in ("title", "$defs")}
    if "description" in converted:
        converted["description"] = " ".join(converted["description"].split())
    converted = _with_default(_map_parts(converted, lambda part: _convert(part, definitions)))
    return dict(sorted(converted.items(), key=lambda item: _rank(item[0])))


def _rank(key: str) -> float:
    """What a reader looks for first comes first; nested schemas and rules come last."""
    return _ORDER.index(key) if key in _ORDER else _ORDER.index("properties") - 0.5


def _inline(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """Replace a reference by what it names; words beside the reference win."""
    if "$ref" not in node:
        return node
    target = definitions[node["$ref"].rpartition("/")[2]]
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return {**_inline(target, definitions), **beside}


def _collapse(node: Schema, definitions: dict[str, Schema]) -> Schema:
    """`X or null` → X, and `integer or string` → Kubernetes' int-or-string."""
    if "anyOf" not in node:
        return node
    rest = {key: value for key, value in node.items() if key != "anyOf"}
    choices = [choice for choice in node["anyOf"] if choice.get("type") != "null"]
    if len(choices) == 1:
        return _collapse({**_inline(choices[0], definitions), **rest}, definitions)
    assert sorted(choice.get("type", "") for choice in choices) == ["integer", "string"], node
    return {**rest, "anyOf": _INT_OR_STRING, "x-kubernetes-int-or-string": True}


def _with_default(node: Schema) -> Schema:
    """Keep a default that says something; an object's is `{}` when its parts have their own."""
    default = node.get("default")
    if isinstance(default, dict) and _has_defaults(node):
        return {**node, "default": {}}
    if default is None or default == "" or isinstance(default, dict | list):
        return {key: value for key, value in node.items() if key != "default"}
    return node


def _has_defaults(node: Schema) -> bool:
    return any("default" in part for part in node.get("properties", {}).values())
