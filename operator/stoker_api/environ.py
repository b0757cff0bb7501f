"""How settings get their values: `STOKER_<FIELD IN CAPITALS>`, read once at a process's start.

Knows the prefix; does not know any setting. Operator and gateway each have a class of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

from pydantic import BaseModel, Field

PREFIX = "STOKER_"

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[float, Field(gt=0)]
SettingsT = TypeVar("SettingsT", bound=BaseModel)


def read_settings(kind: type[SettingsT], environ: Mapping[str, str]) -> SettingsT:
    """Settings of an environment; an empty variable counts as unset.

    Raises `pydantic.ValidationError`, which names the field.
    """
    named = {PREFIX + name.upper(): name for name in kind.model_fields}
    values = {field: environ[name] for name, field in named.items() if environ.get(name)}
    return kind.model_validate(values)


def split_names(text: str) -> list[str]:
    """Comma-separated names: "a, b," is a and b."""
    return [name.strip() for name in text.split(",") if name.strip()]
