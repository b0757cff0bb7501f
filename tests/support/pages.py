"""Pages made from code: the settings of every process, as Markdown.

Reads classes whose fields have docstrings; `tests/test_docs.py` compares the page with the file.
"""

import ast
import dataclasses
import inspect
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import PydanticUndefined

from stoker_gateway.settings import Settings as GatewaySettings
from stoker_operator.settings import Settings as OperatorSettings
from stoker_runtime.config import Config, flag_names

SETTINGS_FILE = "docs/settings.md"
_INTRO = """\
# Settings

Made by `make golden` from the settings classes. Each is read from the environment; a bad value ends
the start with a message that names it. The chart sets those that a cluster needs, see
`charts/stoker/values.yaml`.
"""
_RUNTIME = """\
Each is a flag too, which wins over the variable: `STOKER_MAX_NUM_SEQS` is `--max-num-seqs`. For
pods the operator sets them from the spec of the LLMDeployment.
"""


def render_settings() -> str:
    """The whole page."""
    parts = [
        _INTRO,
        _section("Operator", "`python -m stoker_operator`\n", OperatorSettings),
        _section("Gateway", "`python -m stoker_gateway`\n", GatewaySettings),
        _section("Runtime", f"`python -m stoker_runtime serve`\n\n{_RUNTIME}", Config),
    ]
    assert len(flag_names()) == len(field_docs(Config)), "every flag is a documented field"
    return "\n".join(parts)


def _section(title: str, text: str, settings: type) -> str:
    defaults = field_defaults(settings)
    rows = [
        f"| `{variable(name)}` | {_show(defaults[name])} | {doc} |"
        for name, doc in field_docs(settings).items()
    ]
    head = "| variable | default | meaning |\n|---|---|---|"
    return f"## {title}\n\n{text}\n{head}\n" + "\n".join(rows) + "\n"


def variable(name: str) -> str:
    """The environment variable of a field."""
    return f"STOKER_{name.upper()}"


def field_docs(settings: type) -> dict[str, str]:
    """Field → docstring, in order; a field without one is an error."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(settings)))
    body = tree.body[0].body  # type: ignore[attr-defined]
    docs: dict[str, str] = {}
    for field, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(after, ast.Expr), f"{settings}.{field.target.id} has no docstring"
            docs[field.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return docs


def field_defaults(settings: type) -> dict[str, Any]:
    """Field → default; `...` where there is none."""
    if issubclass(settings, BaseModel):
        found = {name: field.default for name, field in settings.model_fields.items()}
        return {name: ... if v is PydanticUndefined else v for name, v in found.items()}
    fields = dataclasses.fields(settings)
    return {f.name: ... if f.default is dataclasses.MISSING else f.default for f in fields}


def _show(default: Any) -> str:
    if default is ...:
        return "(required)"
    return "" if default is None or default == "" else f"`{default}`"


def write_settings(root: Path) -> None:
    """Write the page into a checkout."""
    (root / SETTINGS_FILE).write_text(render_settings())
