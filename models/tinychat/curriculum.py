"""The mix of tasks, the conversations built from them, and the two sides of the split.

It does not know tokens. `training` draws endless conversations from it, `heldout_examples` is the
committed test set.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from tinychat import arithmetic, spelling, talk
from tinychat.example import Example, is_held_out

Message = dict[Literal["role", "content"], str]


@dataclass(frozen=True, slots=True)
class Task:
    """A generator with its share of the training mix."""

    draw: Callable[[random.Random], Example]
    weight: float


# Harder tasks get more of the mix; the weights are relative.
TASKS: dict[str, Task] = {
    "add": Task(arithmetic.add, 2.5),
    "subtract": Task(arithmetic.subtract, 6),
    "multiply": Task(arithmetic.multiply, 2.5),
    "compare": Task(arithmetic.compare, 3),
    "parity": Task(arithmetic.parity, 1),
    "count": Task(arithmetic.count, 2.5),
    "sort": Task(arithmetic.sort_numbers, 6),
    "spell": Task(spelling.spell, 1),
    "reverse": Task(spelling.reverse, 2.5),
    "upper": Task(spelling.upper, 1),
    "length": Task(spelling.length, 1),
    "tally": Task(spelling.tally, 4),
    "pick": Task(spelling.pick, 1),
    "repeat": Task(spelling.repeat, 1.5),
    "echo": Task(spelling.echo, 2),
    "chat": Task(talk.chat, 2.5),
    "unknown": Task(talk.unknown, 2),
}

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are tiny-chat.",
    "You are a helpful assistant. Answer in one sentence.",
    "Be brief and kind.",
    "You are tiny-chat, a small model served by Stoker. Work in small steps.",
)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns under an optional system prompt; only the last one may end the talk."""

    system: str | None
    turns: tuple[Example, ...]

    def messages(self) -> list[Message]:
        """The conversation as OpenAI messages, answers included."""
        lines: list[Message] = []
        if self.system is not None:
            lines.append({"role": "system", "content": self.system})
        for turn in self.turns:
            lines.append({"role": "user", "content": turn.question})
            lines.append({"role": "assistant", "content": turn.answer})
        return lines


def draw_example(rng: random.Random, task: str, *, held_out: bool) -> Example:
    """An example of `task` from the asked side of the split."""
    while True:
        example = TASKS[task].draw(rng)
        if is_held_out(example.key) == held_out:
            return example


def conversations(seed: int, max_turns: int = 4) -> Iterator[Conversation]:
    """Endless training conversations, most of a single turn. Nothing held out is in any of them."""
    rng = random.Random(seed)
    names, weights = list(TASKS), [task.weight for task in TASKS.values()]
    while True:
        num_turns = 1 if rng.random() < 0.5 else rng.randrange(1, max_turns + 1)
        turns: list[Example] = []
        for name in rng.choices(names, weights, k=num_turns):
            turns.append(draw_example(rng, name, held_out=False))
            if turns[-1].ends_talk:
                break
        system = rng.choice(SYSTEM_PROMPTS) if rng.random() < 0.2 else None
        yield Conversation(system, tuple(turns))


def heldout_examples(per_task: int = 24, seed: int = 20_240_607) -> list[Example]:
    """The test set: equally many different keys of each task, none of them ever trained on."""
    chosen: list[Example] = []
    for name in TASKS:
        rng = random.Random(f"{seed} {name}")
        keyed: dict[str, Example] = {}
        while len(keyed) < per_task:
            example = draw_example(rng, name, held_out=True)
            keyed.setdefault(example.key, example)
        chosen.extend(keyed.values())
    return chosen
