"""The JSON of log probabilities: a chat's, a completion's, and vLLM's of a prompt.

Knows the three shapes, and where in an echoed prompt each token begins; does not know answers or
streams. Called by the writers of answers.
"""

from __future__ import annotations

from collections.abc import Sequence

from stoker_runtime.server.generation import TokenEntry
from stoker_runtime.text.detokenize import Detokenizer, Vocabulary
from stoker_runtime.wire import TokenLogprob

Json = dict[str, object]
_LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON can't say."""


def render_chat(entries: Sequence[TokenEntry], vocabulary: Vocabulary, num_top: int) -> Json:
    """`choices[].logprobs` of a chat."""
    content = [
        _one(entry.token, vocabulary)
        | {"top_logprobs": [_one(token, vocabulary) for token in entry.top[:num_top]]}
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def render_completion(
    entries: Sequence[TokenEntry], vocabulary: Vocabulary, num_top: int, echo_chars: int
) -> Json:
    """`choices[].logprobs` of a completion; nothing is known of the first token of a prompt."""
    tops = [
        {_text(t, vocabulary): _finite(t.logprob) for t in (*entry.top[:num_top], entry.token)}
        for entry in entries
    ]
    return {
        "tokens": [_text(entry.token, vocabulary) for entry in entries],
        "token_logprobs": [
            _finite(entry.token.logprob) if entry.known else None for entry in entries
        ],
        "top_logprobs": [
            top if entry.known else None for top, entry in zip(tops, entries, strict=True)
        ],
        "text_offset": [echo_chars + entry.offset for entry in entries],
    }


def render_prompt(
    found: Sequence[Sequence[TokenLogprob]], vocabulary: Vocabulary, num_top: int
) -> list[Json | None]:
    """vLLM's `prompt_logprobs`: per token its own and the likeliest, by id; null for the first.

    `found` holds, for every token but the first, its own and then the likeliest.
    """
    return [None, *(_ranked(own, top[:num_top], vocabulary) for own, *top in found)]


def _ranked(own: TokenLogprob, top: list[TokenLogprob], vocabulary: Vocabulary) -> Json:
    ranks: dict[int, int | None] = {own.token_id: None}
    ranks |= {token.token_id: at + 1 for at, token in enumerate(top)}
    return {
        str(token.token_id): {
            "logprob": _finite(token.logprob),
            "rank": ranks[token.token_id],
            "decoded_token": vocabulary.token_bytes(token.token_id).decode("utf-8", "replace"),
        }
        for token in (own, *top)
    }


def list_prompt_entries(
    ids: Sequence[int],
    found: Sequence[Sequence[TokenLogprob]],
    vocabulary: Vocabulary,
    text: str,
) -> list[TokenEntry]:
    """The tokens of an echoed prompt; their places count back from the answer's first character.

    What the tokens say may be longer than the text, by a begin-of-text token or the space that some
    tokenizers put first: "<s> hello" for "hello" is 4 longer, so those 4 characters are at -5.
    """
    detokenizer = Detokenizer(vocabulary, skip_special=False)
    begins, length = [], 0
    for id in ids:
        begins.append(length)
        length += len(detokenizer.push((id,)))
    extra = max(0, length + len(detokenizer.flush()) - len(text))
    offsets = [max(0, begin - extra) - len(text) for begin in begins]
    first = TokenEntry(TokenLogprob(ids[0], 0.0), (), offsets[0], known=False)
    rest = zip(found, offsets[1:], strict=True)
    return [first, *(TokenEntry(own, tuple(top), offset) for (own, *top), offset in rest)]


def _one(token: TokenLogprob, vocabulary: Vocabulary) -> Json:
    raw = vocabulary.token_bytes(token.token_id)
    return {
        "token": raw.decode("utf-8", "replace"),
        "logprob": _finite(token.logprob),
        "bytes": list(raw),
    }


def _text(token: TokenLogprob, vocabulary: Vocabulary) -> str:
    """A token as a key: pieces of characters are written as bytes, so that no two look alike."""
    raw = vocabulary.token_bytes(token.token_id)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)


def _finite(logprob: float) -> float:
    return max(logprob, _LEAST_LOGPROB)
