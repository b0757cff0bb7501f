"""The kinds of fields that resources are made of: names, quantities, sources, label maps.

Each says in one place what pydantic refuses and what the API server refuses. Knows no resource;
`v1alpha1.py` and its parts build on it.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from stoker_api import names, source
from stoker_api.rules import Extension, duration_between, keys, literal, matching, rule, rules

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
SERVED_NAME = r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]*$"
QUALIFIED_NAME = r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$"
LABEL_VALUE = r"^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$"
IMAGE = r"^[a-z0-9][A-Za-z0-9._:/@-]*$"

RESERVED_PREFIX = f"{names.GROUP}/"
RESERVED_LABELS = (names.LABEL_NAME, names.LABEL_MANAGED_BY)


class ApiModel(BaseModel):
    """A part of a resource: camelCase outside, immutable, blind to fields of newer releases."""

    model_config = ConfigDict(
        frozen=True,
        extra="ignore",
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


def _check_source(text: str) -> str:
    source.parse_source(text)
    return text


def _source_rules() -> Extension:
    accepted = " || ".join(f"self.matches({literal(p)})" for p in source.PATTERNS.values())
    return rules(rule(accepted, f"must be {source.FORMS}, was %s"))


def _is_reserved(key: str) -> bool:
    return key.startswith(RESERVED_PREFIX) or key in RESERVED_LABELS


def _is_malformed(key: str) -> bool:
    return not re.fullmatch(QUALIFIED_NAME, key)


_RESERVED = f"k.startsWith('{RESERVED_PREFIX}') || k in {list(RESERVED_LABELS)}"
_MALFORMED = f"!k.matches({literal(QUALIFIED_NAME)})"
_label, _label_rules = matching(DNS_LABEL, "lower case letters, digits and inner '-'")
_subdomain, _subdomain_rules = matching(SUBDOMAIN, "lower case letters, digits, inner '-' and '.'")
_quantity, _quantity_rules = matching(
    QUANTITY, "a quantity such as 500m, 4 or 16Gi", "string(self)"
)
_served, _served_rules = matching(SERVED_NAME, "letters, digits and any of . _ : / @ + -")
_resource, _resource_rules = matching(QUALIFIED_NAME, "a resource name such as nvidia.com/gpu")
_value, _value_rules = matching(LABEL_VALUE, "a label value: letters, digits and inner . _ -")
_image, _image_rules = matching(IMAGE, "an image such as registry.example/stoker-runtime:1.0")
_idle, _idle_rules = duration_between("1s", "168h")
_hold, _hold_rules = duration_between("1s", "1h")
_keys, _keys_rule = keys(
    _MALFORMED, _is_malformed, "must have keys such as team or a.org/b, was %s"
)
_own, _own_rule = keys(_RESERVED, _is_reserved, "must leave Stoker's own names alone, was %s")

DnsLabel = Annotated[str, Field(max_length=63, json_schema_extra=_label_rules), _label]
Subdomain = Annotated[str, Field(max_length=253, json_schema_extra=_subdomain_rules), _subdomain]
Quantity = Annotated[int | str, Field(json_schema_extra=_quantity_rules), _quantity]
ServedName = Annotated[str, Field(max_length=128, json_schema_extra=_served_rules), _served]
ResourceName = Annotated[str, Field(max_length=128, json_schema_extra=_resource_rules), _resource]
Image = Annotated[str, Field(max_length=512, json_schema_extra=_image_rules), _image]
IdleTimeout = Annotated[str, Field(max_length=16, json_schema_extra=_idle_rules), _idle]
ColdStartTimeout = Annotated[str, Field(max_length=16, json_schema_extra=_hold_rules), _hold]
Source = Annotated[
    str,
    Field(max_length=source.MAX_LENGTH, json_schema_extra=_source_rules()),
    AfterValidator(_check_source),
]
LabelValue = Annotated[str, Field(max_length=63, json_schema_extra=_value_rules), _value]
LabelMap = Annotated[
    dict[str, LabelValue], Field(max_length=32, json_schema_extra=rules(_keys_rule)), _keys
]
PodLabels = Annotated[
    dict[str, LabelValue],
    Field(max_length=32, json_schema_extra=rules(_keys_rule, _own_rule)),
    _keys,
    _own,
]
PodAnnotations = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]],
    Field(max_length=32, json_schema_extra=rules(_keys_rule, _own_rule)),
    _keys,
    _own,
]
