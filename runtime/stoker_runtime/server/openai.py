"""Requests of the two OpenAI routes, checked and turned into an `Ask`.

Knows how fields act together and what is meant by those left out; does not know the tokenizer, the
engine or HTTP. Called by the routes; every refusal names its field.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import msgspec

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.server.badjson import decode_body
from stoker_runtime.server.bodies import (
    Body,
    ChatBody,
    CompletionBody,
    StreamOptions,
    TokenizeBody,
    check_body,
    check_prompt,
)
from stoker_runtime.server.defaults import SamplingDefaults
from stoker_runtime.server.messages import Chat, read_messages
from stoker_runtime.server.refusal import invalid, unsupported

MAX_SEQUENCES = 1024
MAX_STOPS = 16
MAX_STOP_CHARS = 512
COMPLETION_TOKENS = 16
"""How long an answer of `/v1/completions` is when the request does not say."""
_OPENAI = SamplingDefaults()


@dataclass(frozen=True, slots=True)
class Ask:
    """A checked request, in the server's own words."""

    model: str
    n: int
    max_tokens: int | None
    """None: as many as fit for a chat, `COMPLETION_TOKENS` for a completion."""
    params: SamplingParams
    """Still without the seeds of the choices and the final `max_tokens`."""
    stops: tuple[str, ...]
    include_stop: bool
    skip_special: bool
    echo: bool
    stream: bool
    include_usage: bool
    continuous_usage: bool
    add_special_tokens: bool
    """Whether the tokenizer adds its own begin-of-text token."""
    priority: int
    cache_salt: str
    prompt_logprobs: int | None
    """Alternatives shown per prompt token in a field of their own (vLLM's)."""
    prompts: tuple[str | list[int], ...] = ()
    """One for each prompt of a completion; empty for a chat."""
    chat: Chat | None = None
    """None for a completion."""

    @property
    def is_chat(self) -> bool:
        """Which of the two routes."""
        return self.chat is not None

    @property
    def echoes_logprobs(self) -> bool:
        """The prompt is shown with its tokens' log probabilities."""
        return self.echo and self.params.logprobs is not None


_chat_decoder = msgspec.json.Decoder(ChatBody)
_completion_decoder = msgspec.json.Decoder(CompletionBody)


def read_chat(data: bytes | bytearray, defaults: SamplingDefaults = _OPENAI) -> Ask:
    """Read a chat request. Raises `Refusal`."""
    body = decode_body(_chat_decoder, data)
    check_body(body)
    ask = _build(
        body,
        defaults,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    return replace(ask, chat=read_prompt(body), add_special_tokens=bool(body.add_special_tokens))


def read_completion(data: bytes | bytearray, defaults: SamplingDefaults = _OPENAI) -> Ask:
    """Read a completion request. Raises `Refusal`."""
    body = decode_body(_completion_decoder, data)
    check_body(body)
    if body.suffix:
        raise unsupported("suffix", "`suffix` is not supported by this server")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise unsupported("best_of", "`best_of` other than `n` is not supported by this server")
    prompts = _read_prompts(body.prompt)
    if len(prompts) * (body.n or 1) > MAX_SEQUENCES:
        raise invalid(f"`prompt` and `n` ask for more than {MAX_SEQUENCES} answers", "prompt")
    ask = _build(body, defaults, max_tokens=body.max_tokens, logprobs=body.logprobs)
    return replace(ask, prompts=prompts)


def read_prompt(body: ChatBody | TokenizeBody) -> Chat:
    """The chat that is to be rendered. Raises `Refusal`."""
    check_prompt(body)
    extra = dict(body.chat_template_kwargs or {})
    if body.reasoning_effort:
        extra.setdefault("reasoning_effort", body.reasoning_effort)
    return Chat(
        messages=read_messages(body.messages or []),
        extra=extra,
        opens_answer=body.add_generation_prompt is not False and not body.continue_final_message,
        continues_last=bool(body.continue_final_message),
    )


def _build(
    body: Body, defaults: SamplingDefaults, max_tokens: int | None, logprobs: int | None
) -> Ask:
    """What both routes share; the prompt comes on top."""
    options = body.stream_options or StreamOptions()
    params = _read_params(body, defaults, max_tokens)
    asked = [body.prompt_logprobs, logprobs if body.echo else None]
    most = max((count for count in asked if count is not None), default=None)
    return Ask(
        model=body.model,
        n=body.n or 1,
        max_tokens=max_tokens,
        params=msgspec.structs.replace(params, logprobs=logprobs, prompt_logprobs=most),
        stops=_read_stops(body.stop),
        include_stop=bool(body.include_stop_str_in_output),
        skip_special=body.skip_special_tokens is not False,
        echo=bool(body.echo),
        stream=bool(body.stream),
        include_usage=bool(options.include_usage),
        continuous_usage=bool(options.continuous_usage_stats),
        add_special_tokens=body.add_special_tokens is not False,
        priority=body.priority or 0,
        cache_salt=body.cache_salt or "",
        prompt_logprobs=body.prompt_logprobs,
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _read_params(body: Body, defaults: SamplingDefaults, max_tokens: int | None) -> SamplingParams:
    min_tokens = body.min_tokens or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise invalid(
            f"`min_tokens` must be ≤ `max_tokens`, was {min_tokens} > {max_tokens}", "min_tokens"
        )
    return SamplingParams(
        max_tokens=max_tokens or 1,
        min_tokens=min_tokens,
        temperature=_or(body.temperature, defaults.temperature),
        top_p=max(_or(body.top_p, defaults.top_p), 1e-6),  # 0 keeps only the most likely token
        top_k=max(defaults.top_k if body.top_k is None else body.top_k, 0),
        min_p=_or(body.min_p, defaults.min_p),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        repetition_penalty=_or(body.repetition_penalty, defaults.repetition_penalty),
        seed=body.seed,
        logit_bias=_read_logit_bias(body.logit_bias or {}),
        stop_token_ids=tuple(dict.fromkeys(body.stop_token_ids or ())),
        ignore_eos=bool(body.ignore_eos),
    )


def _read_logit_bias(bias: dict[str, float]) -> dict[int, float]:
    read: dict[int, float] = {}
    for key, value in bias.items():
        if not (key.isascii() and key.isdigit()):
            raise invalid(f"`logit_bias`: keys are token ids, was {key[:40]!r}", "logit_bias")
        if not -100 <= value <= 100:
            raise invalid(
                f"`logit_bias`: must be between -100 and 100, was {value} for token {key[:40]}",
                "logit_bias",
            )
        read[int(key[:20])] = value
    return read


def _read_stops(stop: str | list[str] | None) -> tuple[str, ...]:
    stops = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if len(stops) > MAX_STOPS:
        raise invalid(f"`stop`: at most {MAX_STOPS} strings, were {len(stops)}", "stop")
    if any(not text for text in stops):
        raise invalid("`stop`: a stop string must not be empty", "stop")
    if any(len(text) > MAX_STOP_CHARS for text in stops):
        raise invalid(f"`stop`: at most {MAX_STOP_CHARS} characters each", "stop")
    return stops


def _read_prompts(
    prompt: str | list[str | int | list[int]] | None,
) -> tuple[str | list[int], ...]:
    """One text, one list of ids, or a list of either."""
    if prompt is None:
        raise invalid("`prompt` is required", "prompt", "missing_required_parameter")
    if isinstance(prompt, str):
        return (prompt,)
    if not prompt:
        raise invalid("`prompt` must not be an empty list", "prompt")
    texts = [part for part in prompt if isinstance(part, str)]
    ids = [part for part in prompt if isinstance(part, int)]
    lists = [part for part in prompt if isinstance(part, list)]
    if len(ids) == len(prompt):
        return (ids,)
    if len(texts) == len(prompt):
        return tuple(texts)
    if len(lists) == len(prompt) and all(lists):
        return tuple(lists)
    raise invalid("`prompt`: a text, token ids, or a list of either, not a mixture", "prompt")
