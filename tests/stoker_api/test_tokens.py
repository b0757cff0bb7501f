"""Bearer tokens derived from one key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_api.tokens import bearer_matches, derive_token


def test_a_token_is_the_hmac_of_its_purpose() -> None:
    known = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    assert derive_token(b"key", "The quick brown fox jumps over the lazy dog") == known


def test_purposes_and_keys_have_different_tokens() -> None:
    tokens = {derive_token(k, p) for k in (b"a", b"b") for p in ("demand", "runtime/x/y")}
    assert len(tokens) == 4


def test_the_right_token_is_let_in() -> None:
    token = derive_token(b"key", "demand")
    assert bearer_matches(f"Bearer {token}", token)


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "bearer t", "Basic t", "t", "Bearer t "]
)
def test_anything_else_is_kept_out(header: str | None) -> None:
    assert not bearer_matches(header, "t")


@given(st.text())
def test_no_header_text_breaks_the_comparison(header: str) -> None:
    assert bearer_matches(header, "secret") == (header == "Bearer secret")
