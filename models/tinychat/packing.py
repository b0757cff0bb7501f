"""Conversations as rows of token ids: several share a row, and none sees another.

It knows tokens and shapes, not tasks or weights. Called by `training`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from tinychat.curriculum import Conversation
from tinychat.tokens import ASSISTANT, BOS, END, END_OF_TEXT, PAD, SYSTEM, USER, special_id

# So many conversations are waiting to be fitted into rows; more of them leave fewer gaps.
_POOL = 64


@dataclass(frozen=True, slots=True)
class Encoded:
    """One conversation; `graded[i]` says that token i is the assistant's own."""

    ids: list[int]
    graded: list[bool]


@dataclass(frozen=True, slots=True)
class Batch:
    """Equal rows, ready for the network."""

    ids: Tensor  # int64 [num_rows, row_tokens]
    targets: (
        Tensor  # int64 [num_rows, row_tokens], the next token, or -100 where nothing is learned
    )
    mask: Tensor  # bool [num_rows, 1, row_tokens, row_tokens], True where one may look


def encode(tokenizer: Tokenizer, conversation: Conversation) -> Encoded:
    """The ids that the chat template gives, marked by who says them."""
    ids, graded = [special_id(tokenizer, BOS)], [False]

    def say(role: str, content: str, end: str, own: bool) -> None:
        body = tokenizer.encode(content.strip(), add_special_tokens=False).ids
        body.append(special_id(tokenizer, end))
        ids.extend((special_id(tokenizer, role), *body))
        graded.extend((False, *([own] * len(body))))

    if conversation.system is not None:
        say(SYSTEM, conversation.system, END, own=False)
    for turn in conversation.turns:
        say(USER, turn.question, END, own=False)
        say(ASSISTANT, turn.answer, END_OF_TEXT if turn.ends_talk else END, own=True)
    return Encoded(ids, graded)


def pack(source: Iterator[Encoded], row_tokens: int) -> Iterator[list[Encoded]]:
    """Rows of conversations, filled up with the longest that fit; those too long are dropped."""
    pool: list[Encoded] = []
    while True:
        row: list[Encoded] = []
        room = row_tokens
        while True:
            while len(pool) < _POOL:
                pool.append(next(source))
            pool = [item for item in pool if len(item.ids) <= row_tokens]
            fitting = [item for item in pool if len(item.ids) <= room]
            if not fitting:
                break
            # A row begins with any, so that short ones do not wait for ever behind long ones.
            item = max(fitting, key=lambda one: len(one.ids)) if row else fitting[0]
            pool.remove(item)
            row.append(item)
            room -= len(item.ids)
        yield row


def collate(rows: list[list[Encoded]], row_tokens: int, pad_id: int) -> Batch:
    """Tensors of the rows; conversation k of a row is segment k, padding is one of its own."""
    shape = (len(rows), row_tokens)
    ids, targets = torch.full(shape, pad_id), torch.full(shape, -100)
    segments = torch.full(shape, -1)
    for r, row in enumerate(rows):
        start = 0
        for k, item in enumerate(row):
            end = start + len(item.ids)
            ids[r, start:end] = torch.tensor(item.ids)
            segments[r, start:end] = k
            following = [i if own else -100 for i, own in zip(item.ids, item.graded, strict=True)]
            targets[r, start : end - 1] = torch.tensor(following[1:])
            start = end
    same = segments[:, :, None] == segments[:, None, :]
    causal = torch.ones(row_tokens, row_tokens, dtype=torch.bool).tril()
    return Batch(ids, targets, (same & causal)[:, None])


def batches(
    tokenizer: Tokenizer, source: Iterator[Conversation], num_rows: int, row_tokens: int
) -> Iterator[Batch]:
    """Endless batches out of endless conversations."""
    rows = pack((encode(tokenizer, conversation) for conversation in source), row_tokens)
    pad_id = special_id(tokenizer, PAD)
    while True:
        yield collate([next(rows) for _ in range(num_rows)], row_tokens, pad_id)
