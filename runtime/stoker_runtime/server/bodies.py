"""The fields of requests, with their types and ranges, and which are refused by name.

Knows OpenAI's fields and the extras that vLLM's clients send; does not know what they mean for the
engine. msgspec refuses wrong types and lone surrogates while it parses. Unknown fields pass.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from stoker_runtime.server.refusal import invalid, unsupported

MAX_CHOICES = 128
MAX_LOGPROBS = 20
MAX_TOKENS = 2**31
MAX_SALT_CHARS = 512
_SEED_RANGE = 2**63

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
Priority = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Salt = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SALT_CHARS)]


class StreamOptions(msgspec.Struct):
    """`stream_options`."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class Body(msgspec.Struct):
    """What both routes share. Names are the API's; null is the same as absent."""

    model: str
    n: Choices | None = None
    max_tokens: Natural | None = None
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
    add_special_tokens: bool | None = None
    ignore_eos: bool | None = None
    prompt_logprobs: Alternatives | None = None
    priority: Priority | None = None
    cache_salt: Salt | None = None
    echo: bool | None = None
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
    prompt_embeds: object = None
    use_beam_search: object = None
    allowed_token_ids: object = None
    bad_words: object = None
    logits_processors: object = None
    truncate_prompt_tokens: object = None
    return_token_ids: object = None
    return_tokens_as_token_ids: object = None


class ChatBody(Body):
    """`POST /v1/chat/completions`."""

    messages: list[dict[str, object]] = []
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, object] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    parallel_tool_calls: bool | None = None
    tools: list[dict[str, object]] | None = None
    tool_choice: str | dict[str, object] | None = None
    # Known, and refused unless they ask for nothing.
    chat_template: object = None
    documents: object = None
    functions: object = None
    function_call: object = None
    modalities: object = None
    audio: object = None
    web_search_options: object = None


class CompletionBody(Body):
    """`POST /v1/completions`."""

    prompt: str | list[str | TokenId | list[TokenId]] | None = None
    logprobs: Alternatives | None = None
    best_of: Choices | None = None
    suffix: str | None = None


class TokenizeBody(msgspec.Struct):
    """`POST /tokenize`: a text, or a chat as the chat route would take it."""

    model: str | None = None
    prompt: str | None = None
    messages: list[dict[str, object]] | None = None
    add_special_tokens: bool | None = None
    """A text gets them unless told otherwise, a rendered chat has them already."""
    return_token_strs: bool | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: dict[str, object] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    tools: list[dict[str, object]] | None = None
    tool_choice: str | dict[str, object] | None = None
    chat_template: object = None


class DetokenizeBody(msgspec.Struct):
    """`POST /detokenize`."""

    tokens: list[TokenId]
    model: str | None = None


_HARMLESS: dict[str, tuple[object, ...]] = {
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "documents": ([],),
    "bad_words": ([],),
    "logits_processors": ([],),
    "use_beam_search": (False,),
    "return_token_ids": (False,),
    "return_tokens_as_token_ids": (False,),
}
"""Values of refused fields that ask for nothing."""
_TOOLS = "tool calling is not supported by this server"
_STRUCTURE = "structured output is not supported by this server"
_IDS = "answers are text; `/tokenize` gives its ids"
_REFUSED = {
    "tool_choice": _TOOLS,
    "functions": _TOOLS,
    "function_call": _TOOLS,
    "response_format": _STRUCTURE,
    "guided_json": _STRUCTURE,
    "guided_regex": _STRUCTURE,
    "guided_choice": _STRUCTURE,
    "guided_grammar": _STRUCTURE,
    "structured_outputs": _STRUCTURE,
    "modalities": "answers are text only",
    "audio": "answers are text only",
    "web_search_options": "this server searches nothing",
    "documents": "put documents into the messages",
    "chat_template": "only the model's own chat template is used",
    "prompt_embeds": "prompts are text or token ids",
    "use_beam_search": "beam search is not supported by this server",
    "allowed_token_ids": "use `logit_bias`",
    "bad_words": "use `logit_bias`",
    "logits_processors": "code from requests is never run",
    "truncate_prompt_tokens": "prompts are never cut",
    "return_token_ids": _IDS,
    "return_tokens_as_token_ids": _IDS,
}


def check_body(body: Body) -> None:
    """What types and ranges of single fields can't say. Raises `Refusal`."""
    check_refused(body)
    if body.stream_options is not None and not body.stream:
        raise invalid("`stream_options` needs `stream` to be true", "stream_options")
    if body.prompt_logprobs is not None and body.stream:
        raise unsupported("prompt_logprobs", "`prompt_logprobs` can't be streamed")
    if isinstance(body, ChatBody):
        _check_chat(body)


def check_prompt(body: ChatBody | TokenizeBody) -> None:
    """What fields of a chat's prompt can't say alone. Raises `Refusal`."""
    if body.tools and body.tool_choice != "none":
        message = f"`tools`: {_TOOLS}; they are taken with `tool_choice` `none`"
        raise unsupported("tools", message)
    if body.continue_final_message and body.add_generation_prompt:
        raise invalid(
            "`continue_final_message` and `add_generation_prompt` can't both be true",
            "continue_final_message",
        )


def check_refused(body: Body | TokenizeBody) -> None:
    """Nothing is asked for that there is not. Raises `Refusal`."""
    for name, why in _REFUSED.items():
        value = getattr(body, name, None)
        if value is not None and value not in _HARMLESS.get(name, ()):
            raise unsupported(name, f"`{name}`: {why}")


def _check_chat(body: ChatBody) -> None:
    if body.echo:
        raise unsupported("echo", "`echo` is a field of /v1/completions")
    if body.max_tokens == 0:
        raise invalid("`max_tokens` must be ≥ 1, was 0", "max_tokens")
    if body.top_logprobs and not body.logprobs:
        raise invalid("`top_logprobs` needs `logprobs` to be true", "top_logprobs")
