"""The model card: what a stranger has to know, with the figures of the run that made the model.

It fills the figures into `card.md` and computes none of them. Called by `train_tiny_chat.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tinychat.heldout import Score, show
from tinychat.network import Shape


@dataclass(frozen=True, slots=True)
class Figures:
    """What one training run measured."""

    shape: Shape
    num_parameters: int
    weights_bytes: int
    num_steps: int
    num_tokens: int
    elapsed_s: float
    cpu_s: float
    num_threads: int
    start: str
    """The folder whose weights the run went on from; empty: none."""
    scores: Sequence[Score]
    samples: Sequence[tuple[str, str]]
    """What was asked for show, and what the model said."""


def build_card(figures: Figures, max_letters: int) -> str:
    """The text of the folder's README.md."""
    shape = figures.shape
    template = Path(__file__).with_name("card.md").read_text()
    return template.format(
        parameters=f"{figures.num_parameters:,}",
        size=f"{figures.weights_bytes / 1e6:.1f} MB",
        layers=shape.num_hidden_layers,
        hidden=shape.hidden_size,
        ffn=shape.intermediate_size,
        heads=shape.num_attention_heads,
        kv_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        context=shape.max_position_embeddings,
        vocab=shape.vocab_size,
        steps=figures.num_steps,
        tokens=f"{figures.num_tokens:,}",
        minutes=figures.elapsed_s / 60,
        cpu_minutes=figures.cpu_s / 60,
        threads="one core" if figures.num_threads == 1 else f"{figures.num_threads} cores",
        origin=f", going on from the weights in `{figures.start}`" if figures.start else "",
        table="\n".join(show(figures.scores)),
        samples="\n".join(f"| {question} | {answer} |" for question, answer in figures.samples),
        letters=max_letters,
    )
