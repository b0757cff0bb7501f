"""The kinds of fields that resources are made of: names, durations, quantities, sources.

Each says in one place what pydantic refuses and, as a CEL rule, what the API server refuses. Knows
no resource; `v1alpha1.py` and `status.py` build on it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from stoker_api import duration, source

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
SERVED_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$"
RESOURCE_NAME = r"^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"

Rules = dict[str, Any]


class ApiModel(BaseModel):
    """A part of a resource: camelCase outside, immutable, blind to fields of newer releases."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def rule(expression: str, message: str) -> dict[str, str]:
    """One CEL rule; `message` is itself a CEL expression, so that it can quote the value."""
    return {"rule": expression, "messageExpression": message}


def rules(*each: dict[str, str]) -> Rules:
    """The schema extension that carries CEL rules."""
    return {"x-kubernetes-validations": list(each)}


def cel(text: str) -> str:
    """A CEL string literal of `text`, backslashes as they are."""
    quote = '"' if "'" in text else "'"
    return f"r{quote}{text}{quote}"


def matching(pattern: str, wanted: str) -> tuple[AfterValidator, Rules]:
    """The Python check and the CEL rule of one pattern, with the same words."""
    message = f"{cel(f'must be {wanted}, was ')} + string(self)"
    return AfterValidator(_matcher(pattern, wanted)), rules(
        rule(f"string(self).matches({cel(pattern)})", message)
    )


def _matcher(pattern: str, wanted: str) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if not re.fullmatch(pattern, str(value)):
            raise ValueError(f"must be {wanted}, was {value}")
        return value

    return check


def _check_source(text: str) -> str:
    source.parse_source(text)
    return text


def _source_rules() -> Rules:
    accepted = " || ".join(f"self.matches({cel(p)})" for p in source.PATTERNS.values())
    return rules(rule(accepted, f"{cel(f'must be {source.FORMS}, was ')} + self"))


def duration_between(lowest: str, highest: str) -> tuple[AfterValidator, Rules]:
    """The Python check and the CEL rules of a duration within limits."""
    grammar = f"self.matches({cel(duration.PATTERN)})"
    limits = f"duration(self) >= duration('{lowest}') && duration(self) <= duration('{highest}')"
    wanted = f"must be between {lowest} and {highest}, was "
    form = "must be a duration such as 90s, 5m or 1h30m, was "

    def check(text: str) -> str:
        seconds = duration.parse_duration(text)
        if not duration.parse_duration(lowest) <= seconds <= duration.parse_duration(highest):
            raise ValueError(f"{wanted}{text}")
        return text

    return AfterValidator(check), rules(
        rule(grammar, f"{cel(form)} + self"),
        rule(f"!{grammar} || ({limits})", f"{cel(wanted)} + self"),
    )


_label, _label_rules = matching(DNS_LABEL, "lower case letters, digits and inner '-'")
_subdomain, _subdomain_rules = matching(SUBDOMAIN, "lower case letters, digits, inner '-' and '.'")
_quantity, _quantity_rules = matching(QUANTITY, "a quantity such as 500m, 4 or 16Gi")
_served, _served_rules = matching(SERVED_NAME, "letters, digits and any of . _ : / @ + -")
_resource, _resource_rules = matching(RESOURCE_NAME, "a resource name such as nvidia.com/gpu")

DnsLabel = Annotated[str, Field(max_length=63, json_schema_extra=_label_rules), _label]
Subdomain = Annotated[str, Field(max_length=253, json_schema_extra=_subdomain_rules), _subdomain]
Quantity = Annotated[int | str, Field(json_schema_extra=_quantity_rules), _quantity]
ServedName = Annotated[str, Field(max_length=128, json_schema_extra=_served_rules), _served]
ResourceName = Annotated[str, Field(max_length=128, json_schema_extra=_resource_rules), _resource]
Source = Annotated[
    str,
    Field(max_length=source.MAX_LENGTH, json_schema_extra=_source_rules()),
    AfterValidator(_check_source),
]
Image = Annotated[str, Field(min_length=1, max_length=512)]
LabelValue = Annotated[str, Field(max_length=63)]
AnnotationValue = Annotated[str, Field(max_length=4096)]
