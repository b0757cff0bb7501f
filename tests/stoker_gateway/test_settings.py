"""Settings from the environment."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from stoker_api.environ import read_settings
from stoker_gateway.settings import Settings


def test_defaults_hold_and_empty_variables_count_as_unset() -> None:
    assert read_settings(Settings, {"STOKER_PORT": "", "HOME": "/"}) == Settings()


def test_variables_are_read_by_their_prefixed_names() -> None:
    settings = read_settings(Settings, {"STOKER_PORT": "81", "STOKER_WATCH_NAMESPACES": "a, b,"})
    assert settings.port == 81
    assert settings.namespace_list == ["a", "b"]


def test_every_worker_has_its_own_internal_port() -> None:
    assert read_settings(Settings, {"STOKER_WORKERS": "3"}).internal_ports == [8090, 8091, 8092]


@pytest.mark.parametrize(
    ("name", "value"),
    [("PORT", "http"), ("PORT", "70000"), ("WORKERS", "0"), ("LOG_FORMAT", "xml")],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValidationError) as refused:
        read_settings(Settings, {f"STOKER_{name}": value})
    assert refused.value.errors()[0]["loc"] == (name.lower(),)
