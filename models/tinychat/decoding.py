"""Greedy answers of a network, and its score on graded examples.

A reference that shares no code with the serving runtime. Called by `train_tiny_chat.py` and
`evaluate.py`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer

from tinychat.curriculum import Conversation
from tinychat.example import Example
from tinychat.network import KeyValueCache, Network
from tinychat.packing import encode
from tinychat.tokens import ASSISTANT, END, END_OF_TEXT, special_id


@torch.inference_mode()
def decode_greedily(network: Network, prompts: list[list[int]], stop: set[int]) -> list[list[int]]:
    """Continue prompts of equal length until each said a stop token (left out) or room ends."""
    cache = KeyValueCache(network.shape.num_hidden_layers)
    ids = torch.tensor(prompts)  # [batch, num_tokens]
    said: list[list[int]] = [[] for _ in prompts]
    open_rows = set(range(len(prompts)))
    for _ in range(network.shape.max_position_embeddings - len(prompts[0])):
        best = network.logits(network.hidden(ids, cache=cache)[:, -1]).argmax(-1)
        for row in list(open_rows):
            token = int(best[row])
            if token in stop:
                open_rows.discard(row)
            else:
                said[row].append(token)
        if not open_rows:
            break
        ids = best[:, None]
    return said


def answer_all(
    network: Network, tokenizer: Tokenizer, questions: Sequence[str], system: str | None = None
) -> list[str]:
    """The answer to each question, asked alone; those of equal length are decoded together."""
    stop = {special_id(tokenizer, END), special_id(tokenizer, END_OF_TEXT)}
    by_length: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
    for i, question in enumerate(questions):
        ids = prompt_ids(tokenizer, question, system)
        by_length[len(ids)].append((i, ids))
    answers = [""] * len(questions)
    for group in by_length.values():
        said = decode_greedily(network, [ids for _, ids in group], stop)
        for (i, _), tokens in zip(group, said, strict=True):
            answers[i] = tokenizer.decode(tokens)
    return answers


def prompt_ids(tokenizer: Tokenizer, question: str, system: str | None = None) -> list[int]:
    """What the chat template makes of one question, up to where the assistant speaks."""
    turn = Example("", "", question, "")
    ids = encode(tokenizer, Conversation(system, (turn,))).ids
    assert ids[-2] == special_id(tokenizer, ASSISTANT), "an empty answer is one end token"
    return ids[:-1]
