"""Prompts become ids once, with the special tokens that belong to them and no others."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer as Backend
from tokenizers import processors

from stoker_runtime.server.defaults import SamplingDefaults
from stoker_runtime.server.openai import read_chat, read_completion
from stoker_runtime.server.refusal import Refusal
from stoker_runtime.server.texts import Texts, beside_streams, load_texts
from stoker_runtime.text import template
from support.checkpoints import write_tokenizer

USER = {"role": "user", "content": "hi"}
BOS = 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer that puts a begin-of-text token first, and a template that writes it too."""
    write_tokenizer(tmp_path, 320)
    path = tmp_path / "tokenizer.json"
    backend = Backend.from_file(str(path))
    backend.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", BOS)]
    )
    backend.save(str(path))
    template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
    (tmp_path / "chat_template.jinja").write_text(template)
    return tmp_path


def encode(texts: Texts, **fields: Any) -> list[int]:
    body = json.dumps({"model": "m"} | fields).encode()
    ask = read_chat(body) if "messages" in fields else read_completion(body)
    (ids,) = texts.encode(ask, 512)
    return ids


def test_a_chat_has_one_begin_of_text_token(folder: Path) -> None:
    ids = encode(load_texts(folder), messages=[USER])
    assert ids.count(BOS) == 1
    assert ids[0] == BOS


def test_a_text_gets_one_unless_it_wants_none(folder: Path) -> None:
    texts = load_texts(folder)
    with_bos = encode(texts, prompt="hi")
    assert with_bos[0] == BOS
    assert encode(texts, prompt="hi", add_special_tokens=False) == with_bos[1:]
    assert encode(texts, prompt=with_bos[1:]) == with_bos[1:]


def test_a_chat_gets_a_second_one_only_on_request(folder: Path) -> None:
    ids = encode(load_texts(folder), messages=[USER], add_special_tokens=True)
    assert ids[:2] == [BOS, BOS]


def test_a_model_without_a_template_has_no_chats(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": None}))
    with pytest.raises(Refusal) as refused:
        encode(load_texts(folder), messages=[USER])
    assert refused.value.code == "chat_template_missing"


def test_a_template_that_refuses_is_quoted(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only one turn') }}")
    with pytest.raises(Refusal) as refused:
        encode(load_texts(folder), messages=[USER])
    assert refused.value.message == "`messages`: only one turn"


@pytest.mark.parametrize(
    ("source", "num_chars", "is_quick"),
    [
        ("{{ strftime_now('') }}{{ messages }}", 10, True),
        ("{{ strftime_now('') }}{{ messages }}", 4000, False),
        ("{{ strftime_now('') }}{% for a in range(999) %}{{ a }}{% endfor %}", 10, False),
        ("{{ strftime_now('') }}{{ 'word ' * 5000 }}", 10, False),
    ],
    ids=["short", "long chat", "costly template", "long prompt"],
)
async def test_only_what_is_quick_is_done_beside_the_streams(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str, num_chars: int, is_quick: bool
) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(
        template, "_strftime_now", lambda _: threads.append(threading.current_thread()) or ""
    )
    (folder / "chat_template.jinja").write_text(source)
    texts = load_texts(folder)
    body = json.dumps({"model": "m", "messages": [USER | {"content": "x" * num_chars}]}).encode()
    ask = read_chat(body)
    await beside_streams(lambda hurried: texts.encode(ask, 1 << 20, hurried=hurried), body)
    assert (threads[-1] is threading.main_thread()) == is_quick


def test_the_models_defaults_come_along(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"temperature": 0.3}')
    assert load_texts(folder).defaults == SamplingDefaults(temperature=0.3)
