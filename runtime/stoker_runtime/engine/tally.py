"""Which tokens a sequence has seen and how often it said them, kept from step to step.

Knows tokens and the three penalties; does not know probabilities or the schedule. Used by the
sampler for the rows that ask for a penalty. A token that the step before is still drawing is
counted on the device, once it is there.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence as Rows
from dataclasses import dataclass, field, replace

import torch

from stoker_runtime.engine.transfer import send, send_tensor
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


@dataclass(frozen=True, slots=True)
class Penalties:
    """Of one step: the distinct tokens of each penalised row, one after the other."""

    rows: torch.Tensor  # [num_entries] int64, of the step's rows
    ids: torch.Tensor  # [num_entries] int64
    said: torch.Tensor  # [num_entries] float32
    owners: torch.Tensor  # [num_entries] int64, of `wishes`
    wishes: torch.Tensor  # [num_penalised, 3]: repetition, frequency, presence
    places: torch.Tensor  # [num_penalised] int64: their rows of the step
    is_behind: torch.Tensor | None
    """[num_penalised], 1.0 where the newest token is not counted yet; None where all are."""

    def apply(self, logits: torch.Tensor, newest: torch.Tensor) -> None:
        """Change [num_rows, vocab] in place; newest: [num_rows], the token that each row was fed.

        Repetition first (prompt and answer: divides positive scores, multiplies negative ones),
        then frequency and presence (answer). All rows at once, at their distinct tokens only.
        """
        counted = self if self.is_behind is None else self._count(newest, self.is_behind)
        factor, frequency, presence = self.wishes[counted.owners].unbind(1)
        scores, said = logits[counted.rows, counted.ids], counted.said
        scores = torch.where(scores > 0, scores / factor, scores * factor)
        penalty = frequency * said + presence * (said > 0)
        logits[counted.rows, counted.ids] = scores - penalty

    def _count(self, newest: torch.Tensor, is_behind: torch.Tensor) -> Penalties:
        """With the newest token of each row as one more entry; if it has one already, both say the
        same: a row that said 7 once and is behind with another 7 gets 7 with 2 twice.
        """
        fresh = newest[self.places].long()
        same = (self.ids == fresh[self.owners]).float()
        said = self.said + same * is_behind[self.owners]
        none = torch.zeros_like(self.wishes[:, 0])
        num_same = none.index_add(0, self.owners, same)
        num_said = none.index_add(0, self.owners, same * said)
        count = torch.where(num_same > 0, num_said, is_behind)
        owners = torch.arange(len(fresh), device=fresh.device)
        return replace(
            self,
            rows=torch.cat((self.rows, self.places)),
            ids=torch.cat((self.ids, fresh)),
            said=torch.cat((said, count)),
            owners=torch.cat((self.owners, owners)),
        )


class Tally:
    """The counts of all sequences that were penalised and have not ended."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def forget(self, seq_id: str) -> None:
        """Drop an ended sequence's counts."""
        self._seen.pop(seq_id, None)

    def count(self, rows: Rows[int], seqs: Rows[Sequence], device: torch.device) -> Penalties:
        """What the sequences, which belong to these rows, have seen."""
        seen = [self._update(seq) for seq in seqs]
        lengths = torch.tensor([len(one.ids) for one in seen])
        ids = torch.cat([torch.frombuffer(one.ids, dtype=torch.int64) for one in seen])
        said = torch.cat([torch.frombuffer(one.num_said, dtype=torch.float32) for one in seen])
        params = [seq.params for seq in seqs]
        wishes = torch.tensor(
            [(p.repetition_penalty, p.frequency_penalty, p.presence_penalty) for p in params]
        )
        is_behind = [seq.num_awaited > 0 for seq in seqs]
        owners = torch.arange(len(seqs)).repeat_interleave(lengths)
        return Penalties(
            rows=send_tensor(torch.tensor(rows)[owners], device),
            ids=send_tensor(ids, device),
            said=send_tensor(said, device),
            owners=send_tensor(owners, device),
            wishes=send_tensor(wishes, device),
            places=send(rows, torch.int64, device),
            is_behind=send(is_behind, torch.float32, device) if any(is_behind) else None,
        )

    def _update(self, seq: Sequence) -> _Seen:
        seen = self._seen.get(seq.id)
        if seen is None:
            distinct = dict.fromkeys(seq.prompt_ids)
            seen = _Seen(array("q", distinct), array("f", bytes(4 * len(distinct))))
            seen.places = {token: place for place, token in enumerate(distinct)}
            self._seen[seq.id] = seen
        seen.note(seq.output_ids)
        return seen
