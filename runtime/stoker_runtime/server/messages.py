"""The messages of a chat, checked one by one and made plain for the chat template.

Knows roles, text parts and earlier tool calls; does not know templates. Content becomes one text,
because most templates know no parts. Called by the reader of chat requests.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from stoker_runtime.server.refusal import Refusal, invalid, unsupported

ROLES = ("system", "developer", "user", "assistant", "tool")
MAX_MESSAGES = 4096
_OTHER_PARTS = ("image_url", "input_audio", "file", "video_url", "audio_url", "refusal")
_KEPT = ("name", "tool_call_id", "reasoning_content")

Message = dict[str, object]


@dataclass(frozen=True, slots=True)
class Chat:
    """A checked chat, and how its prompt is to end."""

    messages: tuple[Message, ...]
    extra: dict[str, object] = field(default_factory=dict)
    """Further names for the chat template."""
    opens_answer: bool = True
    """The prompt ends with the head of the assistant's answer."""
    continues_last: bool = False
    """The prompt ends inside the last message, which the answer continues."""


def read_messages(messages: list[Message]) -> tuple[Message, ...]:
    """Check all messages. Raises `Refusal` that names the message and the field."""
    if not messages:
        raise invalid("`messages` must hold at least one message", "messages")
    if len(messages) > MAX_MESSAGES:
        raise invalid(f"`messages`: at most {MAX_MESSAGES}, were {len(messages)}", "messages")
    return tuple(_read(message, f"messages[{at}]") for at, message in enumerate(messages))


def _read(message: Message, where: str) -> Message:
    role = message.get("role")
    if role not in ROLES:
        at = f"{where}.role"
        shown = "absent" if role is None else repr(role)[:40]
        raise invalid(f"`{at}` must be one of {', '.join(ROLES)}, was {shown}", at)
    read: Message = {"role": "system" if role == "developer" else role}
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise _missing(f"{where}.tool_call_id")
    calls = message.get("tool_calls")
    if calls is not None and role == "assistant":
        read["tool_calls"] = _read_calls(calls, f"{where}.tool_calls")
    content = message.get("content")
    if content is None and role == "assistant" and read.get("tool_calls"):
        read["content"] = ""
    else:
        read["content"] = _read_content(content, f"{where}.content")
    for name in _KEPT:
        if message.get(name) is not None:
            read[name] = _text(message[name], f"{where}.{name}")
    return read


def _read_content(content: object, where: str) -> str:
    """One text; parts are joined by line breaks."""
    if isinstance(content, str):
        return content
    if content is None:
        raise _missing(where)
    if not isinstance(content, list):
        raise _wrong_type(where, "a text or a list of parts")
    if not content:
        raise invalid(f"`{where}` must not be an empty list", where)
    return "\n".join(_read_part(part, f"{where}[{at}]") for at, part in enumerate(content))


def _read_part(part: object, where: str) -> str:
    if not isinstance(part, dict):
        raise _wrong_type(where, "an object with `type` and `text`")
    kind = part.get("type")
    if kind in _OTHER_PARTS:
        raise unsupported(f"{where}.type", f"`{where}`: parts of type `{kind}` are not supported")
    if kind != "text":
        at = f"{where}.type"
        raise invalid(f"`{at}` must be `text`, was {repr(kind)[:40]}", at)
    return _text(part.get("text"), f"{where}.text")


def _read_calls(calls: object, where: str) -> list[Message]:
    """Earlier calls, which a template may show to the model."""
    if not isinstance(calls, list):
        raise _wrong_type(where, "a list")
    return [_read_call(call, f"{where}[{at}]") for at, call in enumerate(calls)]


def _read_call(call: object, where: str) -> Message:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise _missing(f"{where}.function")
    _text(function.get("name"), f"{where}.function.name")
    arguments = _text(function.get("arguments"), f"{where}.function.arguments")
    return call | {"function": function | {"arguments": _parse_arguments(arguments)}}


def _parse_arguments(text: str) -> object:
    """The object that the text is, as templates expect it; any other text stays one.

    So does an object that holds half a surrogate pair, which no tokenizer takes.
    """
    try:
        value = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _text(value: object, where: str) -> str:
    if value is None:
        raise _missing(where)
    if not isinstance(value, str):
        raise _wrong_type(where, "a text")
    return value


def _missing(where: str) -> Refusal:
    return invalid(f"`{where}` is required", where, "missing_required_parameter")


def _wrong_type(where: str, wanted: str) -> Refusal:
    return invalid(f"`{where}` must be {wanted}", where, "invalid_type")
