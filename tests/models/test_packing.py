"""Conversations become ids as the chat template has them, full rows, and masks between them."""

from itertools import islice

import pytest
import torch
from tokenizers import Tokenizer

from tinychat.curriculum import Conversation, conversations
from tinychat.example import Example
from tinychat.packing import Encoded, batches, collate, encode, pack
from tinychat.tokens import END, END_OF_TEXT, train_tokenizer

ROW = 192


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    talks = islice(conversations(0), 300)
    texts = [message["content"] for talk in talks for message in talk.messages()]
    return train_tokenizer(texts, 320)


def exchange(question: str, answer: str, *, ends_talk: bool = False) -> Example:
    return Example("chat", question, question, answer, ends_talk)


def test_only_the_assistants_words_and_its_end_are_graded(tokenizer: Tokenizer) -> None:
    turns = (exchange("2+2", "4."), exchange("bye", "So long.", ends_talk=True))
    encoded = encode(tokenizer, Conversation("Be kind.", turns))
    said = [tokenizer.id_to_token(i) for i in encoded.ids]
    graded = [token for token, own in zip(said, encoded.graded, strict=True) if own]
    assert tokenizer.decode(encoded.ids) == "Be kind.2+24.byeSo long."
    assert graded[:3] == ["4", ".", END]
    assert graded[-1] == END_OF_TEXT
    assert said[:2] == ["<|bos|>", "<|system|>"]


def test_special_tokens_in_a_message_stay_whole(tokenizer: Tokenizer) -> None:
    encoded = encode(tokenizer, Conversation(None, (exchange("  padded  ", "ok"),)))
    assert tokenizer.decode(encoded.ids, skip_special_tokens=False) == (
        "<|bos|><|user|>padded<|end|><|assistant|>ok<|end|>"
    )


def test_rows_hold_whole_conversations_and_little_padding(tokenizer: Tokenizer) -> None:
    source = (encode(tokenizer, talk) for talk in conversations(3, max_turns=3))
    rows = list(islice(pack(source, ROW), 40))
    used = [sum(len(item.ids) for item in row) for row in rows]
    assert max(used) <= ROW
    assert sum(used) / (ROW * len(rows)) > 0.95


def test_conversations_that_never_fit_are_dropped() -> None:
    long, short = Encoded([1] * 9, [True] * 9), Encoded([2] * 4, [True] * 4)
    rows = pack(iter([long, short] * 200), 8)
    assert all(row == [short, short] for row in islice(rows, 50))


def test_targets_are_the_next_graded_token_and_never_cross_a_border() -> None:
    row = [Encoded([5, 6, 7], [False, False, True]), Encoded([8, 9], [False, True])]
    batch = collate([row], row_tokens=7, pad_id=0)
    assert batch.ids.tolist() == [[5, 6, 7, 8, 9, 0, 0]]
    assert batch.targets.tolist() == [[-100, 7, -100, 9, -100, -100, -100]]


def test_nobody_looks_ahead_or_into_another_conversation() -> None:
    row = [Encoded([5, 6], [False, True]), Encoded([7, 8], [False, True])]
    mask = collate([row], row_tokens=5, pad_id=0).mask[0, 0].int().tolist()
    assert mask == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 1],
    ]


def test_batches_have_the_asked_shape(tokenizer: Tokenizer) -> None:
    batch = next(batches(tokenizer, conversations(1, max_turns=1), num_rows=3, row_tokens=ROW))
    assert batch.ids.shape == batch.targets.shape == (3, ROW)
    assert batch.mask.shape == (3, 1, ROW, ROW)
    assert batch.ids.dtype == batch.targets.dtype == torch.int64
