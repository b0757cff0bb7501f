"""Rules said twice with the same words: to pydantic in Python, to the API server in CEL.

Knows how a rule, its message and its schema extension are written; does not know which field has
which rule (`fields.py` and the resources do). Every message names the value it refuses.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import AfterValidator

from stoker_api import duration

Extension = dict[str, Any]
"""Keys that are added to a field's JSON schema."""


def rule(
    expression: str, message: str, values: str = "self", field: str | None = None
) -> dict[str, str]:
    """One CEL rule. Each `%s` of the message takes one of `values`, comma-separated expressions;
    `field` is the path below the object at which the error is reported."""
    path = {"fieldPath": field} if field else {}
    # `format` and not `+ string(…)`: the API server takes the latter's length for unbounded.
    worded = f"{literal(message)}.format([{values}])"
    return {"rule": expression, "messageExpression": worded, **path}


def rules(*each: dict[str, str]) -> Extension:
    """The schema extension that carries CEL rules."""
    return {"x-kubernetes-validations": list(each)}


def literal(text: str) -> str:
    """A CEL string literal of `text` with backslashes as they are."""
    quote = '"' if "'" in text else "'"
    return f"r{quote}{text}{quote}"


def matching(pattern: str, wanted: str, text: str = "self") -> tuple[AfterValidator, Extension]:
    """A pattern for text, with what is wanted in words. For what may also be a number, `text` is
    `string(self)`."""

    def check(value: Any) -> Any:
        if not re.fullmatch(pattern, str(value)):
            raise ValueError(f"must be {wanted}, was {value}")
        return value

    expression = f"{text}.matches({literal(pattern)})"
    return AfterValidator(check), rules(rule(expression, f"must be {wanted}, was %s"))


def duration_between(lowest: str, highest: str) -> tuple[AfterValidator, Extension]:
    """A duration within limits, both given as durations."""
    form = "must be a duration such as 90s, 5m or 1h30m, was %s"
    limits = f"must be between {lowest} and {highest}, was %s"

    def check(text: str) -> str:
        seconds = duration.parse_duration(text)
        if not duration.parse_duration(lowest) <= seconds <= duration.parse_duration(highest):
            raise ValueError(limits % text)
        return text

    grammar = f"self.matches({literal(duration.PATTERN)})"
    inside = f"duration(self) >= duration('{lowest}') && duration(self) <= duration('{highest}')"
    return AfterValidator(check), rules(
        rule(grammar, form),
        rule(f"!{grammar} || ({inside})", limits),
    )


def keys(
    broken: str, check: Callable[[str], bool], message: str
) -> tuple[AfterValidator, dict[str, str]]:
    """Keys of a map: `broken` is the CEL condition on a key `k`, `check` the same in Python."""

    def refuse(value: dict[str, str]) -> dict[str, str]:
        for key in value:
            if check(key):
                raise ValueError(message % key)
        return value

    first = f"self.filter(k, {broken})[0]"
    return AfterValidator(refuse), rule(f"!self.exists(k, {broken})", message, first)
