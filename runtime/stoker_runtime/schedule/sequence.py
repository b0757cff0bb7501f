"""One answer in the making: its tokens, how far they are computed, and when it ends.

Knows tokens and the rules of ending; does not know blocks, batches or other sequences. Changed only
by the scheduler.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

from stoker_runtime.schedule.params import SamplingParams

Finish = Literal["stop", "length", "abort", "error"]


class Status(Enum):
    """Where a sequence stands."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Sequence:
    """A prompt and its answer so far."""

    id: str
    prompt_ids: tuple[int, ...]
    params: SamplingParams
    end_ids: frozenset[int] = frozenset()
    """The model's own end tokens."""
    seed: int = 0
    """Where all random numbers of this sequence come from."""
    priority: int = 0
    """Lower goes first."""
    salt: str = ""
    """Blocks of the cache are shared only with sequences of the same salt."""
    output_ids: list[int] = field(default_factory=list)
    num_computed_tokens: int = 0
    """Leading tokens whose keys and values are in the cache, or will be after the steps under way.
    """
    num_settled_tokens: int = 0
    """Those of them whose step is over."""
    num_awaited: int = 0
    """Tokens of the answer that steps under way are drawing, behind those of `output_ids`."""
    drawing_row: int = 0
    """Which draw of the last of these steps is this sequence's."""
    num_cached_tokens: int = 0
    """Those of them that were there when it was first admitted."""
    num_preemptions: int = 0
    rank: tuple[int, int] = (0, 0)
    """Its place among the others, lower first; set when it is queued."""
    block_names: list[bytes] = field(default_factory=list)
    """Of its full blocks, as far as they were needed."""
    status: Status = Status.WAITING
    finish_reason: Finish | None = None
    stop_ids: frozenset[int] = field(init=False)
    """Tokens that end this answer."""

    def __post_init__(self) -> None:
        own = frozenset(self.params.stop_token_ids)
        self.stop_ids = own if self.params.ignore_eos else own | self.end_ids

    @property
    def num_tokens(self) -> int:
        """Prompt and answer so far, and what is being drawn."""
        return len(self.prompt_ids) + len(self.output_ids) + self.num_awaited

    @property
    def num_known_tokens(self) -> int:
        """Prompt and answer so far."""
        return len(self.prompt_ids) + len(self.output_ids)

    @property
    def num_made_tokens(self) -> int:
        """The answer so far, and what is being drawn: the number of the next draw."""
        return len(self.output_ids) + self.num_awaited

    @property
    def has_ended(self) -> bool:
        """It gets no more tokens, whatever is still under way."""
        return self.status is Status.FINISHED

    @property
    def is_decoding(self) -> bool:
        """Only the newest token is not computed yet."""
        num_made = len(self.output_ids) + self.num_awaited
        return num_made > 0 and len(self.prompt_ids) + num_made - self.num_computed_tokens == 1

    def slice_tokens(self, start: int, end: int) -> tuple[int, ...]:
        """Tokens `start` to `end` of prompt and answer together.

        A token that is being drawn is a reference: −1 is what the step before draws first, −2 what
        it draws second.
        """
        num_prompt = len(self.prompt_ids)
        made = self.output_ids[max(0, start - num_prompt) : max(0, end - num_prompt)]
        known = self.prompt_ids[start:end] + tuple(made)
        return known if end <= self.num_known_tokens else (*known, -1 - self.drawing_row)

    def is_full(self, max_model_len: int) -> bool:
        """Nothing may follow the tokens that are here or being drawn."""
        num_made = len(self.output_ids) + self.num_awaited
        return (
            num_made >= self.params.max_tokens or len(self.prompt_ids) + num_made >= max_model_len
        )

    def append(self, token_id: int, max_model_len: int) -> None:
        """Add a made token and finish if it was the last one."""
        self.output_ids.append(token_id)
        if len(self.output_ids) >= self.params.min_tokens and token_id in self.stop_ids:
            self.finish("stop")
        elif self.num_awaited == 0 and self.is_full(max_model_len):
            self.finish("length")

    def finish(self, reason: Finish) -> None:
        """End it; what was made stays."""
        self.status = Status.FINISHED
        self.finish_reason = reason
