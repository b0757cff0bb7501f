"""Reading a JSON body, and why it can't be read: which field, what was expected, what was there.

Knows msgspec's texts and JSON paths; used only after a body was refused, so it may parse it again,
slowly. Called by the readers of request bodies.
"""

from __future__ import annotations

import json
import re
from typing import TypeVar

import msgspec

from stoker_runtime.server.refusal import Refusal, broken_json, invalid

_AT = re.compile(r"^(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?$", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(?P<name>\w+)`")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)")
_MAYBE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SHOWN_CHARS = 60
_encoder = json.JSONEncoder()
_B = TypeVar("_B")


def decode_body(decoder: msgspec.json.Decoder[_B], data: bytes | bytearray) -> _B:
    """Read a body. Raises `Refusal`."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise explain(error, bytes(data)) from None


def explain(error: Exception, data: bytes) -> Refusal:
    """The refusal that names the field at fault."""
    try:
        document = json.loads(data)
    except RecursionError:
        return broken_json("The body is nested too deeply.")
    except ValueError:
        return broken_json("The body is not valid JSON; check quotes, commas and UTF-8.")
    if not isinstance(document, dict):
        return broken_json(f"The body must be a JSON object, was {_shown(document)}.")
    try:
        surrogate = _find_surrogate(document) if _MAYBE_SURROGATE.search(data) else None
    except RecursionError:
        return broken_json("The body is nested too deeply.")
    if surrogate is not None:
        return invalid(f"`{surrogate}` holds a lone surrogate, which is not text", surrogate)
    return _explain_field(str(error), document)


def _explain_field(text: str, document: dict[str, object]) -> Refusal:
    match = _AT.match(text)
    what, path = (match["what"], match["path"] or "") if match else (text, "")
    missing = _MISSING.match(what)
    if missing:
        name = f"{path}.{missing['name']}" if path else missing["name"]
        return invalid(f"`{name}` is required", name, "missing_required_parameter")
    if not path:
        return broken_json("The body is not valid JSON; check quotes, commas and UTF-8.")
    expected = what.replace("Expected", "expected").replace("`", "")
    code = "invalid_type" if "got" in expected else "invalid_value"
    return invalid(f"`{path}`: {expected}{_was(document, path)}", path, code)


def _was(document: object, path: str) -> str:
    """The value at a path, as far as it can be followed."""
    for index, name in _STEP.findall(path):
        if name and isinstance(document, dict):
            document = document.get(name)
        elif index.isdigit() and isinstance(document, list) and int(index) < len(document):
            document = document[int(index)]
        else:
            return ""
    return f", was {_shown(document)}"


def _shown(value: object) -> str:
    """The beginning of a value as JSON; no more is written of a long one."""
    text = ""
    for part in _encoder.iterencode(value):
        text += part[: _SHOWN_CHARS + 1]
        if len(text) > _SHOWN_CHARS:
            return text[:_SHOWN_CHARS] + "…"
    return text


def _find_surrogate(value: object, path: str = "") -> str | None:
    """The path of the first text that can't be written as UTF-8."""
    if isinstance(value, str):
        return path if any("\ud800" <= char <= "\udfff" for char in value) else None
    items: list[tuple[str, object]] = []
    if isinstance(value, dict):
        if any(_find_surrogate(key, "key") for key in value):
            return path or "body"
        items = [(f"{path}.{key}" if path else key, part) for key, part in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{index}]", part) for index, part in enumerate(value)]
    found = (_find_surrogate(part, at) for at, part in items)
    return next((at for at in found if at is not None), None)
