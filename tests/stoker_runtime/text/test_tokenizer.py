"""The tokenizer encodes as transformers does, and its bytes add up to what it decodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken, CheckpointNotFound
from stoker_runtime.text.detokenize import Detokenizer
from stoker_runtime.text.tokenizer import Tokenizer
from support.checkpoints import write_tokenizer

TEXTS = ["", "hello world", "é€😀 \n\t x", "<|im_start|>user\nhello<|im_end|>", "a" * 300]


def configure(folder: Path, **fields: Any) -> None:
    """Lay fields over `tokenizer_config.json`."""
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokenizer(tmp_path, 320)
    return tmp_path


def add_bos_template(folder: Path) -> None:
    """A `tokenizer.json` that itself puts the begin-of-text token first."""
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    backend.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    backend.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("in_json", [False, True], ids=["plain", "bos in tokenizer.json"])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"add_bos_token": True},
        {"add_bos_token": False},
        {"add_bos_token": True, "add_eos_token": True},
        {"add_eos_token": False},
        {"extra_special_tokens": ["<tool>"]},
        {"extra_special_tokens": {"tool_token": "<tool>"}},
        {"extra_special_tokens": {}, "additional_special_tokens": ["<tool>"]},
        {"tool_token": "<tool>"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_encodes_as_transformers_does(folder: Path, in_json: bool, fields: dict[str, Any]) -> None:
    if in_json:
        add_bos_template(folder)
    configure(folder, **fields)
    theirs, ours = AutoTokenizer.from_pretrained(folder), Tokenizer(folder)
    assert ours.config.special_tokens["bos_token"] == theirs.bos_token
    named = {"tool_token": theirs.special_tokens_map.get("tool_token")}
    assert named == {"tool_token": ours.config.special_tokens.get("tool_token")}
    for text in [*TEXTS, "a<tool>b", "a tool_token"]:
        assert ours.encode(text) == theirs(text)["input_ids"], text
        plain = theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.encode(text, add_special_tokens=False) == plain, text


@given(ids=st.lists(st.integers(0, 319), max_size=60))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_byte_level_tokens_add_up_to_what_the_library_decodes(folder: Path, ids: list[int]) -> None:
    ours, backend = Tokenizer(folder), Backend.from_file(str(folder / "tokenizer.json"))
    detokenizer = Detokenizer(ours)
    text = "".join(detokenizer.push([id]) for id in ids) + detokenizer.flush()
    assert text == backend.decode(ids)
    assert ours.decode(ids) == backend.decode(ids, skip_special_tokens=False)


@pytest.fixture
def sentence_piece(tmp_path: Path) -> Path:
    """As Llama 2, Mistral and Gemma have it: `▁` for spaces, bytes where no token fits."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", "▁hello", "world", "lo", "▁▁"]
    vocab = {token: id for id, token in enumerate(tokens)}
    backend = Backend(models.BPE(vocab, [], byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    backend.add_special_tokens(["<unk>", "<s>", "</s>"])
    folder = tmp_path / "sentence_piece"
    folder.mkdir()
    backend.save(str(folder / "tokenizer.json"))
    return folder


@given(text=st.text(max_size=20))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_byte_fallback_tokens_add_up_to_the_text(sentence_piece: Path, text: str) -> None:
    ours = Tokenizer(sentence_piece)
    ids = ours.encode(text, add_special_tokens=False)
    detokenizer = Detokenizer(ours)
    shown = "".join(detokenizer.push([id]) for id in ids) + detokenizer.flush()
    assert shown == Backend.from_file(str(sentence_piece / "tokenizer.json")).decode(ids)


def test_an_answer_keeps_the_space_before_its_first_word(sentence_piece: Path) -> None:
    ours = Tokenizer(sentence_piece)
    ids = [ours._backend.token_to_id(token) for token in ("▁hello", "world")]
    assert Detokenizer(ours).push(ids) == " helloworld"


SPACES = normalizers.Replace(" ", "▁")
STRIP = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]


@pytest.mark.parametrize(
    ("normalizer", "decoder"),
    [
        (
            normalizers.Sequence([normalizers.Prepend("▁"), SPACES]),
            [*STRIP, decoders.Strip(" ", 1, 0)],
        ),
        (SPACES, [decoders.ByteFallback(), decoders.Metaspace("▁", "first")]),
        (SPACES, [decoders.ByteFallback(), decoders.Metaspace("▁", "never")]),
    ],
    ids=["strip", "metaspace first", "metaspace never"],
)
@pytest.mark.parametrize("text", ["hello", " hello", "  hello world", "<s>hello", "<s> hello", ""])
def test_a_prompt_comes_back_without_the_tokenizers_own_space(
    sentence_piece: Path, normalizer: Any, decoder: list[Any], text: str
) -> None:
    path = sentence_piece / "tokenizer.json"
    backend = Backend.from_file(str(path))
    backend.normalizer = normalizer
    backend.decoder = decoders.Sequence(decoder)
    backend.save(str(path))
    ours = Tokenizer(sentence_piece)
    ids = ours.encode(text)
    assert ours.decode(ids) == Backend.from_file(str(path)).decode(ids, skip_special_tokens=False)


@given(text=st.text(max_size=200) | st.text("e fir", max_size=500))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_lower_bound_is_one(folder: Path, sentence_piece: Path, text: str) -> None:
    for ours in (Tokenizer(folder), Tokenizer(sentence_piece)):
        assert ours.least_tokens(text) <= len(ours.encode(text, add_special_tokens=False))


def test_the_lower_bound_grows_with_the_text(folder: Path) -> None:
    assert Tokenizer(folder).least_tokens("hello " * 10_000) > 4000


def test_special_tokens_are_known_by_id(folder: Path) -> None:
    ours = Tokenizer(folder)
    assert [id for id in range(320) if ours.is_special(id)] == [0, 1, 2]
    assert ours.vocab_size == 320
    assert ours.token_bytes(10**9) == b""


def test_the_template_file_wins_over_the_config(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("from the file")
    assert Tokenizer(folder).config.chat_template == "from the file"


def test_of_named_templates_the_default_counts(folder: Path) -> None:
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}]
    configure(folder, chat_template=named)
    assert Tokenizer(folder).config.chat_template == "y"


def test_a_missing_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"tokenizer\.json"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": 1}'])
def test_a_broken_tokenizer_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointBroken, match=r"tokenizer\.json"):
        Tokenizer(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_tokenizer_config_is_named(folder: Path, text: str) -> None:
    (folder / "tokenizer_config.json").write_text(text)
    with pytest.raises(CheckpointBroken, match="tokenizer_config"):
        Tokenizer(folder)


def test_a_decoder_nobody_knows_is_refused(tmp_path: Path) -> None:
    backend = Backend(models.WordLevel({"a": 0}, unk_token="a"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ArchitectureUnsupported, match="decoder"):
        Tokenizer(tmp_path)
