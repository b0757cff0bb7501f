"""The JSON of answers: choices, log probabilities, usage.

Knows OpenAI's shapes of both routes; does not know HTTP, streaming or the engine. Used for plain
answers and, piece by piece, for streams.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_runtime.server.generation import Choice, Delta, Generation, TokenEntry
from stoker_runtime.text.detokenize import Vocabulary
from stoker_runtime.wire import TokenLogprob

FINGERPRINT = "stoker"
_LEAST_LOGPROB = -9999.0
"""Stands for minus infinity, which JSON can't say."""

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """How one request is to be answered; what all parts of the answer repeat."""

    id: str
    created: int
    model: str
    is_chat: bool
    vocabulary: Vocabulary
    echoes: list[str]
    """The texts that come before each completion."""
    logprobs: int | None
    """Alternatives shown per token; None shows no log probabilities."""
    stream: bool
    include_usage: bool
    """A stream ends with a chunk of token counts."""
    continuous_usage: bool
    """Every chunk has token counts."""


def usage(generation: Generation) -> Json:
    """Token counts of the whole request."""
    prompt, completion = generation.prompt_tokens, generation.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": min(generation.cached_tokens, prompt)},
    }


def whole(plan: AnswerPlan, generation: Generation) -> Json:
    """A plain answer."""
    pairs = zip(generation.choices, plan.echoes, strict=True)
    return {
        "id": plan.id,
        "object": "chat.completion" if plan.is_chat else "text_completion",
        "created": plan.created,
        "model": plan.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [_choice(plan, choice, echo) for choice, echo in pairs],
        "usage": usage(generation),
    }


def _choice(plan: AnswerPlan, choice: Choice, echo: str) -> Json:
    delta = choice.take()
    content: Json = {"text": echo + delta.text}
    if plan.is_chat:
        content = {"message": {"role": "assistant", "content": delta.text, "refusal": None}}
    logprobs = None if plan.logprobs is None else render_logprobs(plan, delta)
    end: Json = {"logprobs": logprobs, "finish_reason": choice.finish_reason}
    return {"index": choice.index, **content, **end}


def render_logprobs(plan: AnswerPlan, delta: Delta) -> Json:
    """The log probabilities of some tokens, in the shape of the route."""
    vocabulary, num_top = plan.vocabulary, plan.logprobs or 0
    if plan.is_chat:
        return {"content": [_chat_entry(e, vocabulary, num_top) for e in delta.entries]}
    return {
        "tokens": [_text(e.token, vocabulary) for e in delta.entries],
        "token_logprobs": [_finite(e.token.logprob) for e in delta.entries],
        "top_logprobs": [
            {_text(t, vocabulary): _finite(t.logprob) for t in (*e.top[:num_top], e.token)}
            for e in delta.entries
        ],
        "text_offset": [e.offset for e in delta.entries],
    }


def _chat_entry(entry: TokenEntry, vocabulary: Vocabulary, num_top: int) -> Json:
    top = [_one(token, vocabulary) for token in entry.top[:num_top]]
    return _one(entry.token, vocabulary) | {"top_logprobs": top}


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
