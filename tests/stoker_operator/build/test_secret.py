"""The token Secret against its expected manifest."""

from __future__ import annotations

from stoker_operator.build.secret import build_token_secret
from support.builders import make_llm
from support.golden import check_golden


def test_golden_secret() -> None:
    check_golden("secret", [build_token_secret(make_llm(), "f00d")])
