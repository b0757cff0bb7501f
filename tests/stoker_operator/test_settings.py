"""Settings from the environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from stoker_api.environ import read_settings
from stoker_operator.settings import Settings


def test_defaults_need_no_environment() -> None:
    settings = read_settings(Settings, {"PATH": "/bin"})
    assert settings == Settings()
    assert settings.gateway_url == "http://stoker-gateway.stoker.svc/v1"
    assert settings.namespace_list == []
    assert settings.internal_key is None


def test_reads_what_the_chart_sets(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret\n")
    settings = read_settings(
        Settings,
        {
            "STOKER_NAMESPACE": "serving",
            "STOKER_GATEWAY_PORT": "8080",
            "STOKER_WATCH_NAMESPACES": "a, b,",
            "STOKER_INTERNAL_KEY_FILE": str(key),
            "STOKER_LEASE_DURATION_S": "5",
            "STOKER_RELEASE": "",
        },
    )
    assert settings.gateway_url == "http://stoker-gateway.serving.svc:8080/v1"
    assert settings.namespace_list == ["a", "b"]
    assert settings.internal_key == b"secret"
    assert settings.lease_duration_s == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STOKER_LEASE_DURATION_S", "soon"),
        ("STOKER_LEASE_DURATION_S", "0"),
        ("STOKER_DRAIN_DEADLINE_S", "-1"),
        ("STOKER_LOG_LEVEL", "loud"),
    ],
)
def test_refuses_bad_values_by_name(name: str, value: str) -> None:
    field = name.removeprefix("STOKER_").lower()
    with pytest.raises(ValidationError, match=field):
        read_settings(Settings, {name: value})
