"""The bodies of the two OpenAI routes, read, checked and turned into an `Ask`.

Knows every field, its range and the fields that are refused by name; does not know the tokenizer,
the engine or HTTP. msgspec refuses wrong types and lone surrogates while it parses. Extras pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

import msgspec

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.server.badjson import decode_body
from stoker_runtime.server.messages import read_messages
from stoker_runtime.server.refusal import invalid, unsupported

MAX_CHOICES = 128
MAX_SEQUENCES = 1024
MAX_STOPS = 16
MAX_STOP_CHARS = 512
MAX_LOGPROBS = 20
MAX_TOKENS = 2**31
_SEED_RANGE = 2**63
COMPLETION_TOKENS = 16
"""How long an answer of `/v1/completions` is when the request does not say."""

Zero_Two = Annotated[float, msgspec.Meta(ge=0, le=2)]
Unit = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=10)]
Count = Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
TokenId = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=MAX_CHOICES)]
Alternatives = Annotated[int, msgspec.Meta(ge=0, le=MAX_LOGPROBS)]
TopK = Annotated[int, msgspec.Meta(ge=-1, le=MAX_TOKENS)]
Seed = Annotated[int, msgspec.Meta(ge=-_SEED_RANGE, le=_SEED_RANGE - 1)]


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Body(msgspec.Struct):
    """What both routes share. Names are the API's; null is the same as absent."""

    model: str
    n: Choices | None = None
    max_tokens: Count | None = None
    min_tokens: Natural | None = None
    temperature: Zero_Two | None = None
    top_p: Unit | None = None
    top_k: TopK | None = None
    min_p: Unit | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Positive | None = None
    seed: Seed | None = None
    logit_bias: dict[str, float] | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[TokenId] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    # Known, and refused unless they ask for nothing.
    guided_json: object = None
    guided_regex: object = None
    guided_choice: object = None
    guided_grammar: object = None
    structured_outputs: object = None
    response_format: object = None
    prompt_logprobs: object = None
    prompt_embeds: object = None
    use_beam_search: object = None
    echo: bool | None = None


class ChatBody(_Body):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, object]] = []
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, object] | None = None
    chat_template: object = None
    continue_final_message: object = None
    tools: object = None
    tool_choice: object = None
    functions: object = None
    function_call: object = None
    modalities: object = None
    audio: object = None
    web_search_options: object = None


class CompletionBody(_Body):
    """`POST /v1/completions`."""

    prompt: str | list[str | TokenId | list[TokenId]] | None = None
    logprobs: Alternatives | None = None
    best_of: Choices | None = None
    suffix: str | None = None


_HARMLESS: dict[str, tuple[object, ...]] = {
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "continue_final_message": (False,),
    "use_beam_search": (False,),
}
"""Values of refused fields that ask for nothing."""
_REFUSED = {
    "tools": "tool calling is not supported by this server",
    "tool_choice": "tool calling is not supported by this server",
    "functions": "tool calling is not supported by this server",
    "function_call": "tool calling is not supported by this server",
    "response_format": "structured output is not supported by this server",
    "guided_json": "structured output is not supported by this server",
    "guided_regex": "structured output is not supported by this server",
    "guided_choice": "structured output is not supported by this server",
    "guided_grammar": "structured output is not supported by this server",
    "structured_outputs": "structured output is not supported by this server",
    "modalities": "answers are text only",
    "audio": "answers are text only",
    "web_search_options": "this server searches nothing",
    "chat_template": "only the model's own chat template is used",
    "continue_final_message": "answers always begin a new message",
    "prompt_logprobs": "only the answer's log probabilities are computed",
    "prompt_embeds": "prompts are text or token ids",
    "use_beam_search": "beam search is not supported by this server",
}


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
    prompts: tuple[str | list[int], ...] = ()
    """One for each prompt of a completion; empty for a chat."""
    messages: tuple[dict[str, object], ...] = ()
    """The chat; empty for a completion."""
    template_extra: dict[str, object] = field(default_factory=dict)
    """Further names for the chat template."""

    @property
    def is_chat(self) -> bool:
        """Which of the two routes."""
        return bool(self.messages)


_chat_decoder = msgspec.json.Decoder(ChatBody)
_completion_decoder = msgspec.json.Decoder(CompletionBody)


def read_chat(data: bytes | bytearray) -> Ask:
    """Read a chat request. Raises `Refusal`."""
    body = decode_body(_chat_decoder, data)
    _check(body)
    if body.echo:
        raise unsupported("echo", "`echo` is a field of /v1/completions")
    if body.top_logprobs is not None and not body.logprobs:
        raise invalid("`top_logprobs` needs `logprobs` to be true", "top_logprobs")
    extra = dict(body.chat_template_kwargs or {})
    if body.reasoning_effort:
        extra.setdefault("reasoning_effort", body.reasoning_effort)
    ask = _build(
        body,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        logprobs=(body.top_logprobs or 0) if body.logprobs else None,
    )
    return replace(ask, messages=read_messages(body.messages), template_extra=extra)


def read_completion(data: bytes | bytearray) -> Ask:
    """Read a completion request. Raises `Refusal`."""
    body = decode_body(_completion_decoder, data)
    _check(body)
    if body.suffix:
        raise unsupported("suffix", "`suffix` is not supported by this server")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise unsupported("best_of", "`best_of` other than `n` is not supported by this server")
    if body.echo and body.logprobs is not None:
        raise unsupported("logprobs", "`logprobs` of an echoed prompt are not computed")
    prompts = _read_prompts(body.prompt)
    if len(prompts) * (body.n or 1) > MAX_SEQUENCES:
        raise invalid(f"`prompt` and `n` ask for more than {MAX_SEQUENCES} answers", "prompt")
    ask = _build(body, max_tokens=body.max_tokens, logprobs=body.logprobs)
    return replace(ask, prompts=prompts)


def _check(body: _Body) -> None:
    """What types and ranges of single fields can't say."""
    for name, why in _REFUSED.items():
        value = getattr(body, name, None)
        if value is not None and value not in _HARMLESS.get(name, ()):
            raise unsupported(name, f"`{name}`: {why}")
    if body.stream_options is not None and not body.stream:
        raise invalid("`stream_options` needs `stream` to be true", "stream_options")


def _build(body: _Body, max_tokens: int | None, logprobs: int | None) -> Ask:
    """What both routes share; the prompt comes on top."""
    options = body.stream_options or StreamOptions()
    return Ask(
        model=body.model,
        n=body.n or 1,
        max_tokens=max_tokens,
        params=_read_params(body, max_tokens, logprobs),
        stops=_read_stops(body.stop),
        include_stop=bool(body.include_stop_str_in_output),
        skip_special=body.skip_special_tokens is not False,
        echo=bool(body.echo),
        stream=bool(body.stream),
        include_usage=bool(options.include_usage),
        continuous_usage=bool(options.continuous_usage_stats),
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _read_params(body: _Body, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    min_tokens = body.min_tokens or 0
    if max_tokens is not None and min_tokens > max_tokens:
        raise invalid(
            f"`min_tokens` must be ≤ `max_tokens`, was {min_tokens} > {max_tokens}", "min_tokens"
        )
    return SamplingParams(
        max_tokens=max_tokens or 1,
        min_tokens=min_tokens,
        temperature=_or(body.temperature, 1.0),
        top_p=max(_or(body.top_p, 1.0), 1e-6),  # 0 keeps only the most likely token
        top_k=max(body.top_k or 0, 0),
        min_p=_or(body.min_p, 0.0),
        presence_penalty=_or(body.presence_penalty, 0.0),
        frequency_penalty=_or(body.frequency_penalty, 0.0),
        repetition_penalty=_or(body.repetition_penalty, 1.0),
        seed=body.seed,
        logit_bias=_read_logit_bias(body.logit_bias or {}),
        logprobs=logprobs,
        stop_token_ids=tuple(body.stop_token_ids or ()),
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
