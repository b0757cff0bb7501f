"""The sampling defaults of a checkpoint: read where they make sense, else OpenAI's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stoker_runtime.server.defaults import SamplingDefaults, load_defaults

OPENAI = SamplingDefaults()


def test_a_checkpoint_without_the_file_has_openais(tmp_path: Path) -> None:
    assert load_defaults(tmp_path) == OPENAI


def test_what_the_file_says_counts(tmp_path: Path) -> None:
    said: dict[str, Any] = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
    said |= {"min_p": 0.05, "repetition_penalty": 1.05}
    document = said | {"do_sample": True, "eos_token_id": [1, 2], "transformers_version": "5"}
    (tmp_path / "generation_config.json").write_text(json.dumps(document))
    assert load_defaults(tmp_path) == SamplingDefaults(**said)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "[" * 100_000,
        '{"temperature": null}',
        '{"temperature": "hot"}',
        '{"temperature": true}',
        '{"temperature": NaN}',
        '{"top_p": 7}',
        '{"top_k": 1.5}',
        '{"repetition_penalty": 0}',
    ],
    ids=lambda text: text[:30],
)
def test_what_makes_no_sense_counts_as_unsaid(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    assert load_defaults(tmp_path) == OPENAI
