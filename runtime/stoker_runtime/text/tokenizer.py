"""Text to token ids and back to bytes, as the checkpoint's `tokenizer.json` says.

Knows the special tokens, when a begin-of-text token is due, and the bytes of every token; does not
know chat templates, HTTP or sampling. Built once by the API process while the engine loads.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken, CheckpointNotFound

_SPACE_MARK = "▁"


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    """What `tokenizer_config.json` and `chat_template.jinja` add to `tokenizer.json`."""

    special_tokens: dict[str, str]
    """`bos_token`, `eos_token` and so on, by name."""
    extra_tokens: tuple[str, ...]
    """Further special tokens, without a role of their own."""
    chat_template: str | None


class Tokenizer:
    """The checkpoint's tokenizer; ids in and out, and raw bytes per id."""

    def __init__(self, folder: Path) -> None:
        """Read the checkpoint's files. Raises `CheckpointNotFound` or `CheckpointBroken`."""
        path = folder / "tokenizer.json"
        text = _read(path)
        if text is None:
            raise CheckpointNotFound(f"{path} is missing: the checkpoint needs its tokenizer.json")
        self.config = read_config(folder)
        self._backend = _load_backend(path, text)
        self._add_special_tokens()
        self._token_bytes = _pick_decoder(path, self._backend)
        self._strips_space = _strips_space(self._backend)
        self._bytes: dict[int, bytes] = {}
        self._special_ids = frozenset(
            id for id, token in self._backend.get_added_tokens_decoder().items() if token.special
        )
        self.vocab_size = self._backend.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """A plain prompt, with a begin-of-text token where `tokenizer.json` adds one.

        `add_bos_token` of `tokenizer_config.json` does not count, as in transformers 5. A rendered
        chat holds its own special tokens: encode it without adding any.
        """
        ids: list[int] = self._backend.encode(text, add_special_tokens=add_special_tokens).ids
        return ids

    def token_bytes(self, id: int) -> bytes:
        """The bytes that one token stands for; nothing for an id the tokenizer does not have."""
        known = self._bytes.get(id)
        if known is None:
            token = self._backend.id_to_token(id)
            known = self._bytes[id] = b"" if token is None else self._token_bytes(token)
        return known

    def token_text(self, id: int) -> str:
        """A token as the vocabulary writes it: `Ġhello`, `▁hello`, `<0x0A>`."""
        return self._backend.id_to_token(id) or ""

    def least_tokens(self, text: str) -> int:
        """A lower bound of what `encode` counts, a thousand times faster.

        No token is longer than the longest: 1 MB of text makes at least 8192 tokens if that one has
        128 bytes. A normaliser may shorten a text before, but never to less than a quarter.
        """
        shrinks = 1 if self._backend.normalizer is None else 4
        return len(text.encode()) // (self._longest_token_bytes * shrinks)

    @cached_property
    def _longest_token_bytes(self) -> int:
        return max(len(token.encode()) for token in self._backend.get_vocab())

    def is_special(self, id: int) -> bool:
        """Whether the id is a control token, which answers leave out."""
        return id in self._special_ids

    def decode(self, ids: list[int]) -> str:
        """All ids as one text, special tokens included; for prompts that are echoed.

        A space that the tokenizer itself puts before a text is taken away again. (Answers keep
        theirs: they go on where the prompt ends.)
        """
        text = b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")
        return text[1:] if self._strips_space and text.startswith(" ") else text

    def _add_special_tokens(self) -> None:
        known = {token.content for token in self._backend.get_added_tokens_decoder().values()}
        wanted = [*self.config.special_tokens.values(), *self.config.extra_tokens]
        missing = [token for token in dict.fromkeys(wanted) if token not in known]
        self._backend.add_special_tokens(
            [AddedToken(token, special=True, normalized=False) for token in missing]
        )


def read_config(folder: Path) -> TokenizerConfig:
    """Read `tokenizer_config.json` and, which wins for the template, `chat_template.jinja`."""
    path = folder / "tokenizer_config.json"
    try:
        data = json.loads(_read(path) or "{}")
    except ValueError as error:
        raise CheckpointBroken(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise CheckpointBroken(f"{path} must hold a JSON object")
    named = {name: token for name, token in data.items() if _is_token(name, token)}
    extra = data.get("extra_special_tokens") or data.get("additional_special_tokens") or []
    if isinstance(extra, dict):  # with names, as Gemma 3 has it
        named, extra = named | extra, []
    return TokenizerConfig(
        special_tokens={name: _content(token) for name, token in named.items()},
        extra_tokens=tuple(map(_content, extra)),
        chat_template=_read(folder / "chat_template.jinja") or _pick_template(data),
    )


def _is_token(name: str, value: object) -> bool:
    """`bos_token` and the like; `add_bos_token` is a switch."""
    return name.endswith("_token") and isinstance(value, str | dict) and bool(value)


def _content(token: object) -> str:
    """A special token is written as text or as an object with its text."""
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _pick_template(data: dict[str, object]) -> str | None:
    """The template: one text, or a list of named ones of which `default` counts."""
    template = data.get("chat_template")
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointBroken(f"{path} can't be read: {error}") from error


def _load_backend(path: Path, text: str) -> Backend:
    try:
        backend = Backend.from_str(text)
    except Exception as error:  # the library raises bare Exception
        raise CheckpointBroken(f"{path} is not a tokenizer: {error}") from None
    backend.no_padding()
    backend.no_truncation()
    return backend


class _ByteLevel:
    """GPT-2's alphabet: every byte is one printable character."""

    def __init__(self) -> None:
        printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in printable]
        self._bytes = {chr(byte): byte for byte in printable}
        self._bytes |= {chr(256 + index): byte for index, byte in enumerate(others)}

    def __call__(self, token: str) -> bytes:
        try:
            return bytes([self._bytes[char] for char in token])
        except KeyError:  # an added token is written as plain text
            return token.encode()


def _sentence_piece(token: str) -> bytes:
    """SentencePiece's: `▁` is a space, `<0xE2>` a byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace(_SPACE_MARK, " ").encode()


def _pick_decoder(path: Path, backend: Backend) -> Callable[[str], bytes]:
    """How tokens become bytes, from the kinds of decoder that `tokenizer.json` lists."""
    state = "" if backend.decoder is None else backend.decoder.__getstate__().decode()
    if '"ByteLevel"' in state:
        return _ByteLevel()
    if '"ByteFallback"' in state or '"Metaspace"' in state or _SPACE_MARK in state:
        return _sentence_piece
    raise ArchitectureUnsupported(
        f"{path}: its decoder is none of ByteLevel, ByteFallback and Metaspace, which are built"
    )


def _strips_space(backend: Backend) -> bool:
    """Whether decoding takes a space off the beginning of a text, as Llama 2's tokenizer does."""
    state = {} if backend.decoder is None else json.loads(backend.decoder.__getstate__())
    for step in state.get("decoders", [state]):
        if step.get("type") == "Strip" and step.get("content") == " ":
            return int(step["start"]) > 0
        if step.get("type") == "Metaspace":
            return bool(step.get("prepend_scheme", "always") != "never")
    return False
