"""Web pages of allowed origins are let in, each by the letter of the Fetch standard."""

from __future__ import annotations

import pytest

from stoker_gateway.origins import Origins

PAGE = b"https://chat.example.com"
ASKS = {b"origin": PAGE, b"access-control-request-method": b"POST"}


@pytest.mark.parametrize(
    ("allowed", "told"),
    [
        ([], None),
        (["https://other.example.com"], None),
        (["http://chat.example.com"], None),
        (["https://chat.example.com:8443"], None),
        (["https://chat.example.com"], PAGE),
        (["https://chat.example.com/"], PAGE),
        (["https://other.example.com", "https://chat.example.com"], PAGE),
        (["*"], b"*"),
    ],
)
def test_an_origin_is_its_scheme_host_and_port(allowed: list[str], told: bytes | None) -> None:
    headers = dict(Origins(allowed).headers(ASKS))
    assert headers.get(b"access-control-allow-origin") == told
    assert (Origins(allowed).preflight(ASKS) is None) == (told is None)


def test_an_answer_that_depends_on_the_origin_is_not_cached_for_others() -> None:
    assert (b"vary", b"origin") in Origins([PAGE.decode()]).headers(ASKS)
    assert b"vary" not in dict(Origins(["*"]).headers(ASKS))


def test_no_credentials_but_the_authorization_header_are_asked_for() -> None:
    told = dict(Origins(["*"]).preflight(ASKS) or [])
    assert told[b"access-control-allow-headers"] == b"authorization, content-type"
    assert b"access-control-allow-credentials" not in dict(Origins(["*"]).headers(ASKS))


def test_other_clients_are_told_nothing() -> None:
    assert Origins(["*"]).headers({}) == []
    assert Origins(["*"]).preflight({b"origin": PAGE}) is None
    assert Origins(["*"]).preflight({b"access-control-request-method": b"POST"}) is None
