"""The committed test set: `heldout.jsonl`, and the score that a set of answers gets on it.

It knows lines and marks, not who answers. Called by `train_tiny_chat.py`, `evaluate.py` and the
tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tinychat.example import Example, is_right


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers out of all, for one task or for everything."""

    task: str
    num_right: int
    num_asked: int

    @property
    def share(self) -> float:
        """Between 0 and 1."""
        return self.num_right / self.num_asked


def write_heldout(path: Path, examples: Sequence[Example]) -> None:
    """One chat per line, with the whole answer expected to it."""
    path.write_text("".join(f"{to_line(example)}\n" for example in examples))


def to_line(example: Example) -> str:
    """JSON with the OpenAI messages, the answer, and where the example comes from."""
    content = {
        "task": example.task,
        "key": example.key,
        "messages": [{"role": "user", "content": example.question}],
        "answer": example.answer,
    }
    return json.dumps(content, ensure_ascii=False)


def read_heldout(path: Path) -> list[Example]:
    """The examples of a file that `write_heldout` wrote."""
    return [_from_line(line) for line in path.read_text().splitlines()]


def score(examples: Sequence[Example], answers: Sequence[str]) -> list[Score]:
    """A score per task in the examples' order, and the overall one last."""
    marks: dict[str, list[bool]] = {}
    for example, answer in zip(examples, answers, strict=True):
        marks.setdefault(example.task, []).append(is_right(example.answer, answer))
    scores = [Score(task, sum(right), len(right)) for task, right in marks.items()]
    right, asked = sum(s.num_right for s in scores), sum(s.num_asked for s in scores)
    return [*scores, Score("all", right, asked)]


def show(scores: Sequence[Score]) -> Iterator[str]:
    """The lines of a Markdown table."""
    yield "| task | right | asked | exact match |"
    yield "|---|---:|---:|---:|"
    for one in scores:
        yield f"| {one.task} | {one.num_right} | {one.num_asked} | {one.share:.1%} |"


def _from_line(line: str) -> Example:
    content = json.loads(line)
    question = content["messages"][0]["content"]
    return Example(content["task"], content["key"], question, content["answer"])
