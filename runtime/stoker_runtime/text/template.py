"""Chat messages to one prompt, by the checkpoint's own jinja template.

Knows the names that Hugging Face templates use and the sandbox they run in; does not know which
fields a request may have. Templates come with the model only, never with a request.
"""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Mapping, Sequence
from typing import NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser

from stoker_runtime.errors import CheckpointBroken, RequestInvalid
from stoker_runtime.text import sandbox
from stoker_runtime.text.sandbox import MAX_SOURCE_CHARS, Sandbox, TooCostly, metered

Message = Mapping[str, object]


class ChatTemplate:
    """One compiled template."""

    def __init__(self, source: str, special_tokens: Mapping[str, str]) -> None:
        """Compile it. Raises `CheckpointBroken` when it is not a template."""
        self._special_tokens = dict(special_tokens)
        self._source_chars = len(source)
        self._environment = _environment()
        if len(source) > MAX_SOURCE_CHARS:
            raise CheckpointBroken(
                f"the checkpoint's chat_template is over {MAX_SOURCE_CHARS} long"
            )
        try:
            self._template = self._environment.from_string(source)
        except TemplateError as error:
            raise CheckpointBroken(f"the checkpoint's chat_template: {error}") from None
        except Exception as error:  # nested too deeply for Python's compiler, or a huge number
            what = type(error).__name__
            raise CheckpointBroken(f"the checkpoint's chat_template ({what})") from error

    def render(
        self,
        messages: Sequence[Message],
        extra: Mapping[str, object] | None = None,
        *,
        opens_answer: bool = True,
        hurried: bool = False,
    ) -> str:
        """The prompt, up to where the assistant answers if it `opens_answer`.

        Raises `RequestInvalid`; if `hurried`, `TooCostly` for what takes over two milliseconds.
        """
        names = {"tools": None, "documents": None, "add_generation_prompt": opens_answer}
        fuel = sandbox.QUICK_FUEL if hurried else sandbox.FUEL
        self._environment.refuel(fuel, self._source_chars)
        try:
            return self._template.render(
                self._special_tokens | names | dict(extra or {}), messages=list(messages)
            )
        except (_Refused, TooCostly) as error:
            if hurried and isinstance(error, TooCostly):
                raise
            raise RequestInvalid(str(error)) from None
        except Exception as error:  # a template is a program: anything may go wrong in it
            what = type(error).__name__
            raise RequestInvalid(f"the chat template can't render this chat ({what})") from error

    def render_open(
        self,
        messages: Sequence[Message],
        extra: Mapping[str, object] | None = None,
        *,
        hurried: bool = False,
    ) -> str:
        """The prompt up to the end of the last message's text, which the model continues.

        A mark put there says where that is. It ends with a space: a template that trims the text
        takes the space away, and then trims what stands before the mark too (as transformers has
        it). Raises as `render` does.
        """
        *before, last = messages
        mark = f"|{secrets.token_hex(8)}|"
        marked = {**last, "content": f"{last.get('content') or ''}{mark} "}
        text = self.render([*before, marked], extra, opens_answer=False, hurried=hurried)
        head, found, tail = text.rpartition(mark)
        if not found:
            raise RequestInvalid("the chat template does not show the last message as it is")
        return head if tail.startswith(" ") else head.rstrip()


class _Refused(TemplateError):
    """The template's own `raise_exception`; its text is meant for the user."""


class _Generation(Extension):
    """`{% generation %}` marks what the assistant wrote, for training; here it is only a block."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Keep the block's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> Sandbox:
    """What templates are written for: blocks take their line, and a few functions exist."""
    environment = Sandbox([loopcontrols, _Generation])
    environment.filters["tojson"] = metered("tojson", _tojson)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def _raise_exception(message: str) -> NoReturn:
    raise _Refused(message)


def _strftime_now(format: str) -> str:
    return datetime.datetime.now().strftime(format)


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Plain JSON: jinja's own filter escapes for HTML, which a prompt must not be."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )
