"""Which tokens a sequence has seen and how often it said them, kept from step to step.

Knows tokens and the three penalties; does not know probabilities or the schedule. Used by the
sampler for the rows that ask for a penalty.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field

import torch

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence


def has_penalty(params: SamplingParams) -> bool:
    """One of the three would change something."""
    return (
        params.presence_penalty != 0
        or params.frequency_penalty != 0
        or params.repetition_penalty != 1
    )


@dataclass(slots=True)
class _Seen:
    """One sequence's distinct tokens, in the order in which they appeared."""

    ids: array[int]
    num_said: array[float]
    """How often each was said; 0 when it is only in the prompt."""
    places: dict[int, int] = field(default_factory=dict)
    num_noted: int = 0
    """Tokens of the answer that are counted."""

    def note(self, output_ids: list[int]) -> None:
        """Count what is new in the answer."""
        for token in output_ids[self.num_noted :]:
            place = self.places.setdefault(token, len(self.ids))
            if place == len(self.ids):
                self.ids.append(token)
                self.num_said.append(0.0)
            self.num_said[place] += 1
        self.num_noted = len(output_ids)


class Tally:
    """The counts of all sequences that were penalised and have not ended."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def forget(self, seq_id: str) -> None:
        """Drop an ended sequence's counts."""
        self._seen.pop(seq_id, None)

    def penalise(self, logits: torch.Tensor, rows: Rows[int], seqs: Rows[Sequence]) -> None:
        """Change [num_rows, vocab] in place, where `seqs` belong to `rows`.

        Repetition first (prompt and answer: divides positive scores, multiplies negative ones),
        then frequency and presence (answer). All rows at once, at their distinct tokens only.
        """
        seen = [self._update(seq) for seq in seqs]
        lengths = torch.tensor([len(one.ids) for one in seen])
        ids = torch.cat([torch.frombuffer(one.ids, dtype=torch.int64) for one in seen])
        said = torch.cat([torch.frombuffer(one.num_said, dtype=torch.float32) for one in seen])
        params = [seq.params for seq in seqs]
        wishes = torch.tensor(
            [(p.repetition_penalty, p.frequency_penalty, p.presence_penalty) for p in params]
        )
        factor, frequency, presence = (
            wishes.repeat_interleave(lengths, 0).to(logits.device).unbind(1)
        )
        places = (
            torch.tensor(rows).repeat_interleave(lengths).to(logits.device),
            ids.to(logits.device),
        )
        said = said.to(logits.device)
        scores = logits[places]
        scores = torch.where(scores > 0, scores / factor, scores * factor)
        logits[places] = scores - (frequency * said + presence * (said > 0))

    def _update(self, seq: Sequence) -> _Seen:
        seen = self._seen.get(seq.id)
        if seen is None:
            distinct = dict.fromkeys(seq.prompt_ids)
            seen = _Seen(array("q", distinct), array("f", bytes(4 * len(distinct))))
            seen.places = {token: place for place, token in enumerate(distinct)}
            self._seen[seq.id] = seen
        seen.note(seq.output_ids)
        return seen
