"""Reads typed fields of a JSON object and names the one that is wrong.

Knows JSON's types only; does not know what the fields mean. Used for `config.json` by `model` and
`quant`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken

_LARGEST = 2**31 - 1
Choice = TypeVar("Choice")


class Fields:
    """One object of `config.json`, laid over what its family takes for granted."""

    def __init__(
        self,
        document: Mapping[str, Any],
        prefix: str = "",
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self._document = {**(defaults or {}), **document}
        self._prefix = prefix

    def value(self, name: str) -> Any:
        """The raw value; None when absent."""
        return self._document.get(name)

    def size(self, name: str, default: int | None = None, most: int = _LARGEST) -> int:
        """A positive whole number, no larger than can be meant."""
        value = self._document.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.wrong(name, "a whole number ≥ 1", value)
        if value > most:
            raise self.wrong(name, f"≤ {most}", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        value = self._document.get(name)
        value = default if value is None else value
        if value is None or not _is_number(value):
            raise self.wrong(name, "a number > 0", value)
        return float(value)

    def maybe_number(self, name: str) -> float | None:
        """A positive number, or None when absent."""
        return None if self._document.get(name) is None else self.number(name)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._document.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return default if value is None else value

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        """So many positive numbers."""
        values = self._document.get(name)
        found = values if isinstance(values, list) else []
        good = [float(value) for value in found if _is_number(value)]
        if len(found) != length or len(good) != length:
            raise self.wrong(name, f"a list of {length} numbers > 0", values)
        return tuple(good)

    def one_of(self, name: str, choices: Sequence[Choice], default: Choice | None = None) -> Choice:
        """One of the values that there is code for; True is no number here."""
        value = self._document.get(name)
        value = default if value is None else value
        for choice in choices:
            if value == choice and type(value) is type(choice):
                return choice
        raise self.unsupported(name, value, choices)

    def check_absent(self, *names: str) -> None:
        """Options without code must be off."""
        for name in names:
            if value := self._document.get(name):
                raise self.unsupported(name, value, (None,))

    def child(self, name: str) -> Fields:
        """An object in this one, empty when absent."""
        value = self._document.get(name)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(name, "an object", value)
        return Fields(value or {}, f"{self._prefix}{name}.")

    def wrong(self, name: str, wanted: str, value: object) -> CheckpointBroken:
        """The error to raise for a value that makes no sense."""
        found = "is missing" if value is None else f"was {value!r}"
        return CheckpointBroken(f"config.json: `{self._prefix}{name}` must be {wanted}, {found}")

    def unsupported(
        self, name: str, value: object, choices: Sequence[object]
    ) -> ArchitectureUnsupported:
        """The error to raise for a value that makes sense and has no code."""
        return ArchitectureUnsupported(
            f"config.json: `{self._prefix}{name}` {value!r} is not supported; "
            f"supported: {', '.join(repr(choice) for choice in choices)}"
        )


def _is_number(value: object) -> bool:
    """A number that can be meant: neither NaN nor one that float32 can't hold."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 1e-30 < value < 1e30
