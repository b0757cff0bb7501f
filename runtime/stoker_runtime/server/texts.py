"""The model's text side: its tokenizer and, if it has one, its chat template.

Knows how a request's prompts become ids; does not know HTTP or the engine. Loaded in a thread while
the engine loads, because the libraries and a large vocabulary take longer than `/health` may wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sized
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stoker_runtime.errors import CheckpointNotFound, RequestInvalid
from stoker_runtime.server.defaults import SamplingDefaults, load_defaults
from stoker_runtime.server.messages import Chat
from stoker_runtime.server.openai import Ask
from stoker_runtime.server.refusal import context_far_too_long, invalid

if TYPE_CHECKING:
    from stoker_runtime.text.template import ChatTemplate
    from stoker_runtime.text.tokenizer import Tokenizer

Result = TypeVar("Result")
_HURRIED_BYTES = 2 << 10
"""Of a body: tokenised in about a millisecond."""
_SUSPICIOUS = 8
"""Characters per token of the context above which a prompt is looked at before it is counted."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Text to ids and back, for one model."""

    tokenizer: Tokenizer
    template: ChatTemplate | None
    defaults: SamplingDefaults
    """What the model's makers recommend."""

    def encode(self, ask: Ask, limit: int, *, hurried: bool = False) -> list[list[int]]:
        """The ids of every prompt; none may have more than `limit`. Raises as `render` does."""
        special = ask.add_special_tokens
        if ask.chat:
            text = self.render(ask.chat, hurried=hurried)
            self._check_length(text, limit, "messages")
            return [_some(self.tokenizer.encode(text, add_special_tokens=special), "messages")]
        for prompt in ask.prompts:
            if isinstance(prompt, str):
                self._check_length(prompt, limit, "prompt")
        return [_some(self._encode_prompt(prompt, special), "prompt") for prompt in ask.prompts]

    def render(self, chat: Chat, *, hurried: bool = False) -> str:
        """A chat as the model's template writes it. Raises `Refusal`; hurried, `TooCostly`.

        What a template adds to a short chat is to be tokenised too, so a long text is too costly.
        """
        if self.template is None:
            message = "this model has no chat template: use /v1/completions"
            raise invalid(message, "messages", "chat_template_missing")
        try:
            if chat.continues_last:
                text = self.template.render_open(chat.messages, chat.extra, hurried=hurried)
            else:
                text = self.template.render(
                    chat.messages, chat.extra, opens_answer=chat.opens_answer, hurried=hurried
                )
        except RequestInvalid as error:
            raise invalid(f"`messages`: {error}", "messages") from None
        if hurried and len(text) > 2 * _HURRIED_BYTES:
            from stoker_runtime.text.sandbox import TooCostly

            raise TooCostly("the prompt is long")
        return text

    def echo(self, prompt: str | list[int]) -> str:
        """The prompt as text."""
        return prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt)

    def _encode_prompt(self, prompt: str | list[int], special: bool) -> list[int]:
        if isinstance(prompt, str):
            return self.tokenizer.encode(prompt, add_special_tokens=special)
        return prompt

    def _check_length(self, text: str, limit: int, param: str) -> None:
        """Refuse what can't fit by far without counting it: megabytes take seconds to tokenise."""
        if len(text) > _SUSPICIOUS * limit:
            at_least = self.tokenizer.least_tokens(text)
            if at_least > limit:
                raise context_far_too_long(limit, at_least, param)


def _some(ids: list[int], param: str) -> list[int]:
    if not ids:
        raise invalid(f"`{param}` must not be empty", param)
    return ids


async def beside_streams(work: Callable[[bool], Result], body: Sized) -> Result:
    """`work(hurried)` of a request: here if it is about a millisecond's, else in a thread.

    How long a text takes is known beforehand, a template only when its fuel is burnt.
    """
    from stoker_runtime.text.sandbox import TooCostly

    if len(body) <= _HURRIED_BYTES:
        with suppress(TooCostly):
            return work(True)
    return await asyncio.to_thread(work, False)


def import_texts() -> None:
    """Import what `load_texts` needs: a standby has that behind it when it gets a model."""
    import stoker_runtime.text.template
    import stoker_runtime.text.tokenizer  # noqa: F401


def load_texts(folder: Path) -> Texts:
    """Read the checkpoint's text files. Raises `StokerRuntimeError`."""
    from stoker_runtime.text.template import ChatTemplate
    from stoker_runtime.text.tokenizer import Tokenizer

    if not folder.is_dir():
        raise CheckpointNotFound(f"the checkpoint folder {folder} does not exist")
    tokenizer = Tokenizer(folder)
    source = tokenizer.config.chat_template
    template = ChatTemplate(source, tokenizer.config.special_tokens) if source else None
    return Texts(tokenizer, template, load_defaults(folder))
