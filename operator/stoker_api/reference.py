"""The API reference: `python -m stoker_api.reference` writes `docs/api.md` from the models.

Knows Markdown and how a schema is read to people; fields come from the CRDs, conditions and reasons
from `conditions.py`. A test compares the file with what this makes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stoker_api.conditions import ConditionType, Reason
from stoker_api.schema import Schema, structural_schema, without_defaults
from stoker_api.v1alpha1 import LLMDeployment, WarmPool

FILE = "docs/api.md"
_INTRO = """\
# API reference: `stoker.dev/v1alpha1`

Made by `make crds` from `operator/stoker_api`; `kubectl explain` prints the same texts. Durations
are written as `90s`, `5m` or `1h30m`, quantities as Kubernetes writes them: `500m`, `4`, `16Gi`.
Objects are named by at most 52 lower case letters, digits and inner `-`, a letter first.
"""

_CONDITIONS = """\
## Conditions

Every condition is positive; `Progressing` is merely `False` when nothing is being changed. The
message says what to do. A deployment that sleeps is healthy: `Ready` is `True` with reason
`ScaledToZero`. Whatever keeps a request from being answered is repeated at `Ready`, reason and all.
"""


def main() -> None:
    """Write the reference into the current checkout."""
    Path(FILE).parent.mkdir(parents=True, exist_ok=True)
    Path(FILE).write_text(render_reference())


def render_reference() -> str:
    """The whole page."""
    parts = [_INTRO]
    for model in (LLMDeployment, WarmPool):
        schema = structural_schema(model)
        parts.append(f"## {model.__name__}\n\n{schema['description']}\n")
        parts.extend(_sections("spec", schema["properties"]["spec"]))
        parts.extend(_sections("status", without_defaults(schema["properties"]["status"])))
    return "\n".join([*parts, _conditions()])


def _sections(path: str, schema: Schema) -> Iterator[str]:
    """One table for an object, then one for each object inside it."""
    required = schema.get("required", [])
    rows = [
        f"| `{name}`{' (required)' if name in required else ''} | {_type(part)} | "
        f"{_default(part)} | {part['description'].replace('|', '&#124;')} |"
        for name, part in schema["properties"].items()
    ]
    head = "| field | type | default | meaning |\n|---|---|---|---|"
    yield f"### `{path}`\n\n{head}\n" + "\n".join(rows) + "\n"
    for name, part in schema["properties"].items():
        below, suffix = (part["items"], "[]") if part.get("type") == "array" else (part, "")
        if "properties" in below:
            yield from _sections(f"{path}.{name}{suffix}", below)


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return " \\| ".join(f"`{value}`" for value in schema["enum"])
    if "x-kubernetes-int-or-string" in schema:
        return "quantity"
    match schema["type"]:
        case "array":
            return f"list of {_type(schema['items'])}"
        case "object" if "additionalProperties" in schema:
            return "map of text"
        case "integer" if "maximum" in schema:
            return f"integer, {schema['minimum']} to {schema['maximum']}"
        case "string":
            return "text"
        case kind:
            return str(kind)


def _default(schema: Schema) -> str:
    default: Any = schema.get("default", {})
    if default == {}:
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _conditions() -> str:
    lines = [_CONDITIONS]
    for kind in ConditionType:
        lines += [f"### `{kind}`\n", f"{kind.meaning}\n", "| reason | meaning |", "|---|---|"]
        lines += [f"| `{r}` | {r.meaning} |" for r in Reason if r.condition is kind]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
