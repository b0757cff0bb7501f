"""The named workloads, and the conversations that they are made of.

Knows lengths in tokens, turns and what prompts share; does not know servers or time. Pure: the
same seed, tag and index give the same conversation, in whatever order they are asked for. A
prompt begins with words of its run's tag, so that a server's prefix cache only finds what the
workload itself repeats: earlier turns, a shared prefix, the blocks of a trace.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from stoker_cli.bench.trace import Row
from stoker_cli.bench.words import WORDS, write_code, write_prose

_TAG_WORDS = 6
"""Of more than 256 words: two prompts begin alike once in 10^14 pairs."""


@dataclass(frozen=True, slots=True)
class Span:
    """Lengths in tokens, each as likely as the other."""

    low: int
    high: int

    def draw(self, rng: Random) -> int:
        """A length from `low` to `high`, both possible."""
        return rng.randint(self.low, self.high)

    def scaled(self, factor: float) -> Span:
        """So many times as long; at least one token."""
        return Span(max(1, round(self.low * factor)), max(1, round(self.high * factor)))


@dataclass(frozen=True, slots=True)
class Workload:
    """What a kind of use asks of a server."""

    name: str
    prompt_tokens: Span
    """Of each turn, without what it shares with others."""
    output_tokens: Span
    """The most that is asked for; a model may end earlier."""
    turns: int = 1
    shared_tokens: int = 0
    """Length of a system prompt that all conversations of a run have in common."""
    is_code: bool = False

    def scaled(self, factor: float) -> Workload:
        """The same with all lengths so many times as long."""
        return replace(
            self,
            prompt_tokens=self.prompt_tokens.scaled(factor),
            output_tokens=self.output_tokens.scaled(factor),
            shared_tokens=round(self.shared_tokens * factor),
        )


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("short", Span(32, 128), Span(32, 128)),
        Workload("medium", Span(256, 1024), Span(128, 256)),
        Workload("long", Span(2048, 6144), Span(128, 256)),
        Workload("multi-turn", Span(32, 128), Span(32, 128), turns=5),
        Workload("code", Span(512, 1536), Span(64, 256), is_code=True),
        Workload("shared-prefix", Span(32, 128), Span(32, 128), shared_tokens=1024),
    )
}


@dataclass(frozen=True, slots=True)
class Calibration:
    """How many tokens a server's tokenizer makes of a text, as a straight line."""

    tokens_per_word: float = 1.0
    overhead_tokens: float = 0.0
    """What the chat template adds to a prompt."""

    def count_words(self, num_tokens: int) -> int:
        """Words that make about this many tokens; at least one."""
        return max(1, round((num_tokens - self.overhead_tokens) / self.tokens_per_word))


def fit_calibration(few: tuple[int, int], many: tuple[int, int]) -> Calibration:
    """The line through two prompts, given as (words, tokens); the identity if they make none.

    Example: 20 words were 45 tokens, 80 words 135: 1.5 tokens a word and 15 of the template.
    """
    slope = (many[1] - few[1]) / (many[0] - few[0])
    if slope <= 0:
        return Calibration()
    return Calibration(slope, max(0.0, few[1] - slope * few[0]))


@dataclass(frozen=True, slots=True)
class Turn:
    """What the user says, and how long the answer may be."""

    text: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns that follow each other, each after the answer to the one before."""

    turns: tuple[Turn, ...]
    system: str = ""
    """The system prompt; empty: none."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """All conversations of one run."""

    workload: Workload
    seed: int
    tag: str
    """Unique per run; decides the first words of every prompt and nothing else."""
    calibration: Calibration = Calibration()

    def make(self, index: int) -> Conversation:
        """Conversation number `index`."""
        rng = Random(f"{self.seed}/{index}")
        turns = tuple(
            self._make_turn(rng, "" if number else self._head(str(index)))
            for number in range(self.workload.turns)
        )
        return Conversation(turns, self._shared())

    def probe(self, num_words: int) -> Conversation:
        """A prompt of about so many words and an answer of one token, to count tokens by."""
        rng, head = Random(f"{self.seed}/{num_words}"), self._head(f"probe {num_words}")
        own = num_words - _TAG_WORDS
        text = write_code(rng, own) if self.workload.is_code else write_prose(rng, own)
        return Conversation((Turn(head + text, 1),))

    def replay(self, index: int, row: Row) -> Conversation:
        """A request of a trace; equal block ids become equal text, as they did in the trace."""
        num_words = self.calibration.count_words(row.input_tokens)
        parts = [self._block(row, block) for block in row.blocks]
        rng = Random(f"{self.seed}/{index}")
        body = " ".join(parts) if parts else self._head(str(index)) + write_prose(rng, num_words)
        text = " ".join(body.split()[:num_words])
        return Conversation((Turn(text, row.output_tokens),))

    def _make_turn(self, rng: Random, head: str) -> Turn:
        num_words = self.calibration.count_words(self.workload.prompt_tokens.draw(rng))
        max_tokens = self.workload.output_tokens.draw(rng)
        own = max(1, num_words - len(head.split()))
        if self.workload.is_code:
            return Turn(f"{head}Go on with this file:\n{write_code(rng, own)}", max_tokens)
        return Turn(head + write_prose(rng, own), max_tokens)

    def _shared(self) -> str:
        if not self.workload.shared_tokens:
            return ""
        num_words = self.calibration.count_words(self.workload.shared_tokens)
        return self._head("shared") + write_prose(Random(f"{self.seed}/shared"), num_words)

    def _block(self, row: Row, block: int) -> str:
        """The text of one block of a trace, whose first words are the run's."""
        num_words = max(1, round(row.block_tokens / self.calibration.tokens_per_word))
        rng = Random(f"{self.seed}/block/{block}")
        return self._head(f"block {block}") + write_prose(rng, max(1, num_words - _TAG_WORDS))

    def _head(self, part: str) -> str:
        """Words that no other run begins with."""
        return " ".join(Random(f"{self.tag}/{part}").choices(WORDS, k=_TAG_WORDS)) + ": "
