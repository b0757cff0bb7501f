"""Addresses as people type them."""

import pytest

from stoker_cli.address import complete_url


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("localhost:8000", "http://localhost:8000/v1"),
        ("http://host/", "http://host/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/openai/v1", "https://host/openai/v1"),
    ],
)
def test_addresses_are_completed(typed: str, url: str) -> None:
    assert complete_url(typed) == url
