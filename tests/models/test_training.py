"""Training learns, reports, and scores what it wrote."""

from itertools import islice
from pathlib import Path

import pytest
import torch

from tinychat.card import Figures, build_card
from tinychat.curriculum import conversations, heldout_examples
from tinychat.heldout import Score, read_heldout, score, show, to_line, write_heldout
from tinychat.network import Network, Shape
from tinychat.packing import Batch, batches
from tinychat.tokens import train_tokenizer
from tinychat.training import Progress, Recipe, fit

SHAPE = Shape(
    vocab_size=320,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=1,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=16,
)


@pytest.fixture(scope="module")
def some_batches() -> list[Batch]:
    texts = [m["content"] for talk in islice(conversations(0), 200) for m in talk.messages()]
    tokenizer = train_tokenizer(texts, SHAPE.vocab_size)
    return list(islice(batches(tokenizer, conversations(1, max_turns=1), 4, 128), 30))


def test_the_loss_falls_and_is_reported(some_batches: list[Batch]) -> None:
    torch.manual_seed(0)
    network = Network(SHAPE)
    torch.nn.init.normal_(network.embed_tokens.weight, std=0.02)
    reports: list[Progress] = []
    fit(network, iter(some_batches), Recipe(num_steps=25), reports.append, report_every=10)
    assert [report.step for report in reports] == [10, 20, 25]
    assert [report.num_tokens for report in reports] == [5120, 10240, 12800]
    assert reports[-1].loss < reports[0].loss - 1
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


def test_scores_count_per_task_and_overall() -> None:
    examples = [e for e in heldout_examples(per_task=2) if e.task in ("add", "spell")]
    answers = [examples[0].answer, "no", examples[2].answer, examples[3].answer]
    scores = score(examples, answers)
    assert scores == [Score("add", 1, 2), Score("spell", 2, 2), Score("all", 3, 4)]
    assert list(show(scores))[-1] == "| all | 3 | 4 | 75.0% |"


def test_held_out_examples_survive_their_file(tmp_path: Path) -> None:
    examples = heldout_examples(per_task=2)
    write_heldout(tmp_path / "heldout.jsonl", examples)
    read = read_heldout(tmp_path / "heldout.jsonl")
    assert [to_line(one) for one in read] == [to_line(one) for one in examples]


def test_the_card_tells_the_figures() -> None:
    figures = Figures(
        shape=SHAPE,
        num_parameters=1_234_567,
        weights_bytes=2_469_134,
        num_steps=77,
        num_tokens=7_700,
        elapsed_s=600.0,
        cpu_s=900.0,
        num_threads=2,
        start="models/first",
        scores=[Score("add", 3, 4)],
        samples=[("What is 1 + 1?", "2.")],
    )
    card = build_card(figures, max_letters=12)
    told = (
        "1,234,567",
        "2.5 MB",
        "77 steps",
        "10.0 minutes on 2 cores",
        "15.0 minutes of",
        "weights in `models/first`",
    )
    assert [text for text in told if text not in card] == []
    assert "| add | 3 | 4 | 75.0% |" in card
    assert "| What is 1 + 1? | 2. |" in card
