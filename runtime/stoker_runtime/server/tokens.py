"""`/tokenize` and `/detokenize`: what a text costs, without running the model.

Knows what both answer; does not know the engine. Answers as soon as the tokenizer is loaded, before
the model is.
"""

from __future__ import annotations

import msgspec

from stoker_runtime.server import refusal
from stoker_runtime.server.badjson import decode_body
from stoker_runtime.server.bodies import DetokenizeBody, TokenizeBody, check_refused
from stoker_runtime.server.exchange import Exchange
from stoker_runtime.server.openai import read_prompt
from stoker_runtime.server.refusal import invalid
from stoker_runtime.server.service import Service
from stoker_runtime.server.texts import Texts, beside_streams

_json = msgspec.json.Encoder().encode


_tokenize_decoder = msgspec.json.Decoder(TokenizeBody)
_detokenize_decoder = msgspec.json.Decoder(DetokenizeBody)


async def answer_tokenize(service: Service, exchange: Exchange) -> None:
    """The ids of a text, or of a chat as the model sees it."""
    body = decode_body(_tokenize_decoder, exchange.request.body)
    texts = _get_texts(service, body.model)
    ids, strings = await beside_streams(
        lambda hurried: _count(texts, body, hurried), exchange.request.body
    )
    loaded = service.lifecycle.loaded
    limit = loaded.max_model_len if loaded else None
    answer = {"count": len(ids), "max_model_len": limit, "tokens": ids, "token_strs": strings}
    exchange.send(200, _json(answer))


async def answer_detokenize(service: Service, exchange: Exchange) -> None:
    """The text of some ids."""
    body = decode_body(_detokenize_decoder, exchange.request.body)
    tokenizer = _get_texts(service, body.model).tokenizer
    worst = max(body.tokens, default=0)
    if worst >= tokenizer.vocab_size:
        raise invalid(f"`tokens`: id {worst} is not below {tokenizer.vocab_size}", "tokens")
    text = await beside_streams(lambda _: tokenizer.decode(body.tokens), exchange.request.body)
    exchange.send(200, _json({"prompt": text}))


def _count(texts: Texts, body: TokenizeBody, hurried: bool) -> tuple[list[int], list[str] | None]:
    ids = _encode(texts, body, hurried)
    return ids, list(map(texts.tokenizer.token_text, ids)) if body.return_token_strs else None


def _encode(texts: Texts, body: TokenizeBody, hurried: bool) -> list[int]:
    if body.messages is not None:
        check_refused(body)
        text = texts.render(read_prompt(body), hurried=hurried)
        special = bool(body.add_special_tokens)
    elif body.prompt is None:
        message = "`prompt` or `messages` is required"
        raise invalid(message, "prompt", "missing_required_parameter")
    else:
        text, special = body.prompt, body.add_special_tokens is not False
    return texts.tokenizer.encode(text, add_special_tokens=special)


def _get_texts(service: Service, model: str | None) -> Texts:
    if model is not None and model != service.config.model_name:
        raise refusal.model_not_found(model)
    if service.texts is None:
        raise refusal.refused("loading", "The tokenizer is being loaded; ask again.")
    return service.texts
