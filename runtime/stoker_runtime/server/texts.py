"""The model's text side: its tokenizer and, if it has one, its chat template.

Knows how a request's prompts become ids; does not know HTTP or the engine. Loaded in a thread while
the engine loads, because the libraries and a large vocabulary take longer than `/health` may wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stoker_runtime.errors import CheckpointNotFound, RequestInvalid
from stoker_runtime.server.messages import Message
from stoker_runtime.server.openai import Ask
from stoker_runtime.server.refusal import invalid

if TYPE_CHECKING:
    from stoker_runtime.text.template import ChatTemplate
    from stoker_runtime.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Texts:
    """Text to ids and back, for one model."""

    tokenizer: Tokenizer
    template: ChatTemplate | None

    def encode(self, ask: Ask) -> list[list[int]]:
        """The ids of every prompt. Raises `Refusal`."""
        if ask.is_chat:
            return [self.encode_chat(ask.messages, ask.template_extra)]
        prompts = [self._encode_prompt(prompt) for prompt in ask.prompts]
        if not all(prompts):
            raise invalid("`prompt` must not be empty", "prompt")
        return prompts

    def encode_chat(self, messages: Sequence[Message], extra: dict[str, object]) -> list[int]:
        """A chat as the model's template writes it."""
        if self.template is None:
            message = "this model has no chat template: use /v1/completions"
            raise invalid(message, "messages", "chat_template_missing")
        try:
            text = self.template.render(messages, extra)
        except RequestInvalid as error:
            raise invalid(f"`messages`: {error}", "messages") from None
        ids = self.tokenizer.encode_rendered(text)
        if not ids:
            raise invalid("`messages` make an empty prompt", "messages")
        return ids

    def echo(self, prompt: str | list[int]) -> str:
        """The prompt as text."""
        return prompt if isinstance(prompt, str) else self.tokenizer.decode(prompt)

    def _encode_prompt(self, prompt: str | list[int]) -> list[int]:
        return self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt


def load_texts(folder: Path) -> Texts:
    """Read the checkpoint's text files. Raises `StokerRuntimeError`."""
    from stoker_runtime.text.template import ChatTemplate
    from stoker_runtime.text.tokenizer import Tokenizer

    if not folder.is_dir():
        raise CheckpointNotFound(f"the checkpoint folder {folder} does not exist")
    tokenizer = Tokenizer(folder)
    source = tokenizer.config.chat_template
    template = ChatTemplate(source, tokenizer.config.special_tokens) if source else None
    return Texts(tokenizer, template)
