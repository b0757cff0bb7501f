"""Texts that a model is calibrated on or judged by, as tokens.

Knows files of chats (`{"messages": […], "answer": …}` a line), of texts (`{"text": …}` a line) and
plain ones, and a few prompts of its own; does not know weights. Called by `compression` and the
benchmark of quantisation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker_runtime.errors import CheckpointNotFound, ConfigInvalid, RequestInvalid
from stoker_runtime.text.template import ChatTemplate
from stoker_runtime.text.tokenizer import Tokenizer

PROMPTS = (
    *(f"What is {a} + {b}?" for a, b in ((47, 85), (612, 9), (3508, 1277), (88, 88))),
    *(f"What is {a} - {b}?" for a, b in ((91, 46), (1000, 1), (734, 388))),
    *(f"What is {a} times {b}?" for a, b in ((7, 8), (12, 11), (25, 4))),
    *(f"Sort the numbers {text}." for text in ("42, 7, 19, 88", "5, 3, 9, 1, 4", "100, 10, 1000")),
    *(f"Reverse the word {word}." for word in ("furnace", "stoker", "lamp")),
    *(f"How do you spell '{word}'?" for word in ("harbour", "signal", "cloud")),
    *(f"How many letters has the word {word}?" for word in ("kettle", "river", "engine")),
    *(f"Count from {a} to {b}." for a, b in ((3, 9), (20, 12), (98, 104))),
    *(f"Is {number} even or odd?" for number in (17, 204, 1001)),
    *(f"Which is greater, {a} or {b}?" for a, b in ((52, 25), (999, 1001), (7, 70))),
    *(f"Write {word} in capital letters." for word in ("coal", "winter", "north")),
    *("Hello!", "Who are you?", "What can you do?", "Thank you, goodbye.", "What is Stoker?"),
    "Explain in two sentences why the sky is blue.",
    "Translate into French: The train leaves at seven in the morning.",
    "Write a Python function that returns the larger of two numbers.",
    "Summarise: A stoker feeds the fire of a steam engine. When nobody travels, the fire goes out.",
    "List three things to check before a long journey by bicycle.",
    "Answer with JSON: the name and the population of a small town you make up.",
    "What is the difference between a virus and a bacterium?",
    "Continue the story: The lighthouse had been dark for ten years when",
    "Correct the grammar: He don't know where is the station.",
    "Give me a recipe for a simple soup.",
    "SELECT the customers who ordered twice: write it in SQL.",
    "What are the prime numbers below thirty?",
)
"""Asked when there is no file: the model's own answers to them are the calibration texts.

A model's own text fits what it computes (LLM-QAT, Liu et al. 2023, arXiv 2305.17888) and needs no
data set."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and what should follow it."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...] = ()
    answer: str = ""
    """Empty: there is no right answer, the prompt is a text."""

    @property
    def token_ids(self) -> tuple[int, ...]:
        """All of it."""
        return self.prompt_ids + self.answer_ids

    @property
    def first_graded(self) -> int:
        """The first token whose probability counts: of the answer, or of a text its second."""
        return len(self.prompt_ids) if self.answer_ids else 1


class ExampleReader:
    """Texts to tokens by one checkpoint's tokenizer and template."""

    def __init__(self, folder: Path, max_tokens: int) -> None:
        """`max_tokens` is the longest example; longer ones are cut."""
        self._tokenizer = Tokenizer(folder)
        source = self._tokenizer.config.chat_template
        specials = self._tokenizer.config.special_tokens
        self._template = ChatTemplate(source, specials) if source else None
        self._max_tokens = max_tokens

    def read(self, path: Path) -> list[Example]:
        """The examples of a file; raises `ConfigInvalid` when it holds none."""
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise CheckpointNotFound(f"{path} does not exist") from None
        if path.suffix == ".jsonl":
            examples = [self._parse(path, i, line) for i, line in enumerate(text.splitlines(), 1)]
        else:
            paragraphs = (part.strip() for part in text.split("\n\n"))
            examples = [self.text(part) for part in paragraphs if part]
        examples = [example for example in examples if len(example.token_ids) > 1]
        if not examples:
            raise ConfigInvalid(f"{path} holds no examples")
        return examples

    def text(self, text: str) -> Example:
        """A text without an answer."""
        return Example(tuple(self._tokenizer.encode(text)[: self._max_tokens]))

    def chat(self, messages: Sequence[dict[str, object]], answer: str = "") -> Example:
        """A chat and its answer; without a template its last message is the prompt."""
        if self._template:
            prompt = self._template.render(messages)
            prompt_ids = self._tokenizer.encode(prompt, add_special_tokens=False)
        else:
            prompt_ids = self._tokenizer.encode(str(messages[-1]["content"]))
        answer_ids = self._tokenizer.encode(answer, add_special_tokens=False) if answer else []
        room = self._max_tokens - len(prompt_ids)
        if room <= 0:
            return Example(tuple(prompt_ids[: self._max_tokens]))
        return Example(tuple(prompt_ids), tuple(answer_ids[:room]), answer)

    def decode(self, ids: Sequence[int]) -> str:
        """An answer as text, without special tokens."""
        return self._tokenizer.decode([id for id in ids if not self._tokenizer.is_special(id)])

    def _parse(self, path: Path, number: int, line: str) -> Example:
        try:
            document = json.loads(line)
            if "text" in document:
                return self.text(document["text"])
            return self.chat(document["messages"], document.get("answer") or "")
        except (ValueError, KeyError, TypeError, RequestInvalid) as error:
            raise ConfigInvalid(
                f'{path}:{number} must be {{"messages": [...], "answer": ...}} or {{"text": ...}}: '
                f"{error!r}"
            ) from error
