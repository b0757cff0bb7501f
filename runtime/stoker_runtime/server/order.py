"""The body of `POST /load`: the settings that come and go with a model, as one `Config`.

Knows which settings those are and how they are spelled; does not know phases or the engine. Every
setting that does not belong to the process may be ordered, so a new one needs nothing here.
"""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import msgspec

from stoker_runtime.config import NO_MODEL, PROCESS_FIELDS, Config
from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.server.badjson import decode_body
from stoker_runtime.server.refusal import Refusal, invalid

_decoder = msgspec.json.Decoder(dict[str, object])
_UNDERSCORE = re.compile(r"_([a-z])")
_QUOTED = re.compile(r"`(\w+)`")


def read_order(body: bytes | bytearray, vacant: Config) -> Config:
    """What `vacant` becomes with the model. Raises `Refusal`, which names the field."""
    given = {
        name: value for name, value in decode_body(_decoder, body).items() if value is not None
    }
    if not given.get("model"):
        raise invalid("`model` is required", "model", "missing_required_parameter")
    settings = {_spell(field.name): field.name for field in fields(Config)}
    values = {settings.get(name, name): _check(name, given[name], settings) for name in given}
    try:
        return replace(vacant, **values)  # type: ignore[arg-type]
    except ConfigInvalid as error:
        field = _QUOTED.search(str(error))
        raise invalid(str(error), _spell(field[1]) if field else None) from None


def vacate(config: Config) -> Config:
    """The settings of the process alone; a standby's own settings are the next model's defaults."""
    if config.is_standby:
        return config
    kept = {name: getattr(config, name) for name in (*PROCESS_FIELDS, "token")}
    return replace(Config(model=NO_MODEL), **kept)


def _spell(name: str) -> str:
    return _UNDERSCORE.sub(lambda match: match[1].upper(), name)


def _check(name: str, value: object, settings: dict[str, str]) -> str | int | float | Path:
    setting = settings.get(name)
    if setting is None:
        raise _refuse(name, "is not a setting of a model")
    if setting in PROCESS_FIELDS:
        raise _refuse(name, "belongs to the process: it can't change with the model")
    kind = Config.__annotations__[setting]
    if kind == "int" and (not isinstance(value, int) or isinstance(value, bool)):
        raise _refuse(name, "must be a whole number", "invalid_type")
    if kind == "float":
        return _check_number(name, value)
    if kind in ("str", "Path") and not isinstance(value, str):
        raise _refuse(name, "must be text", "invalid_type")
    if kind != "Path":
        return value  # type: ignore[return-value]
    if not str(value).startswith("/"):
        raise _refuse(name, f"must be an absolute path, was {value!r}")
    return Path(str(value))


def _check_number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refuse(name, "must be a number", "invalid_type")
    return float(value)


def _refuse(name: str, why: str, code: str = "invalid_value") -> Refusal:
    return invalid(f"`{name[:60]}` {why}", name[:60], code)
