"""Makes models/tiny-chat from nothing: data, tokenizer, training, held-out score, model folder.

Takes minutes on two cores: `python models/train_tiny_chat.py`. `--help` lists what can be varied.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer

from tinychat.card import Figures, build_card
from tinychat.checkpoint import load_checkpoint, save_checkpoint
from tinychat.curriculum import conversations, heldout_examples
from tinychat.decoding import answer_all
from tinychat.heldout import Score, score, show, write_heldout
from tinychat.network import Network, Shape
from tinychat.packing import Batch, batches
from tinychat.tokens import train_tokenizer
from tinychat.training import Progress, Recipe, fit
from tinychat.words import COMMON, MAX_LETTERS

FOLDER = Path(__file__).parent / "tiny-chat"
VOCAB_SIZE = 640
TOKENS_PER_STEP = 4608
# Short rows are cheap, so most steps see those; the last ones see talks as long as the context.
SHORT_ROW, LONG_ROW = 128, 512
LONG_SHARE = 0.15
# Asked for the model card, none of them chosen by its answer.
SAMPLES = (
    "What is 347 + 85?",
    "How many r's are in 'strawberry'?",
    "Reverse the word furnace",
    "sort 42, 7, 19, 88",
    "What is 1000 - 1?",
    "What is Stoker?",
    "What is the capital of France?",
)


def build_tokenizer(seed: int) -> Tokenizer:
    """The tokenizer of twenty thousand conversations; the plain words of the tasks stay letters."""
    drawn = itertools.islice(conversations(seed), 20_000)
    texts = (message["content"] for talk in drawn for message in talk.messages())
    return train_tokenizer(texts, VOCAB_SIZE, spelled=frozenset(COMMON))


def build_network(shape: Shape) -> Network:
    """Small random weights, drawn from torch's seeded generator."""
    network = Network(shape)
    for parameter in network.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.02)
    return network


def build_start(options: argparse.Namespace) -> tuple[Network, Tokenizer]:
    """What the fit starts from."""
    if options.start:
        return load_checkpoint(options.start)
    tokenizer = build_tokenizer(options.seed)
    return build_network(Shape(vocab_size=tokenizer.get_vocab_size())), tokenizer


def training_batches(tokenizer: Tokenizer, seed: int, num_steps: int) -> Iterator[Batch]:
    """Short rows of one or two turns first, then long rows of up to ten."""
    num_short = num_steps - int(num_steps * LONG_SHARE)
    short = batches(tokenizer, conversations(seed + 1, 2), TOKENS_PER_STEP // SHORT_ROW, SHORT_ROW)
    long = batches(tokenizer, conversations(seed + 2, 10), TOKENS_PER_STEP // LONG_ROW, LONG_ROW)
    return itertools.chain(itertools.islice(short, num_short), long)


def show_progress(progress: Progress) -> None:
    """One line: how far, how good, how fast, how much longer."""
    share = progress.step / progress.num_steps
    left_s = progress.elapsed_s * (1 / share - 1)
    print(
        f"step {progress.step}/{progress.num_steps} · loss {progress.loss:.4f} · "
        f"{progress.num_tokens / progress.elapsed_s:.0f} tokens/s · {left_s / 60:.1f} minutes left",
        flush=True,
    )


def answer_heldout(network: Network, tokenizer: Tokenizer, path: Path) -> list[Score]:
    """Write the test set and score the network on it."""
    examples = heldout_examples()
    write_heldout(path, examples)
    return score(examples, answer_all(network, tokenizer, [one.question for one in examples]))


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=FOLDER, help="the folder to write")
    parser.add_argument("--start", type=Path, help="a folder to go on from, not from nothing")
    parser.add_argument("--steps", type=int, default=Recipe().num_steps, help="optimiser steps")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="cores to use")
    parser.add_argument("--seed", type=int, default=0, help="of the data and the first weights")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Train, write, score, describe."""
    options = parse_arguments(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    network, tokenizer = build_start(options)
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    print(f"{num_parameters:,} parameters, {options.steps} steps, {options.threads} threads")

    wall_at, cpu_at = time.monotonic(), time.process_time()
    source = training_batches(tokenizer, options.seed, options.steps)
    fit(network, source, Recipe(num_steps=options.steps), show_progress)
    elapsed_s, cpu_s = time.monotonic() - wall_at, time.process_time() - cpu_at

    save_checkpoint(options.out, network, tokenizer)
    # What is scored is what was written: by now the weights are rounded to bf16.
    network, tokenizer = load_checkpoint(options.out)
    scores = answer_heldout(network, tokenizer, options.out / "heldout.jsonl")
    samples = list(zip(SAMPLES, answer_all(network, tokenizer, SAMPLES), strict=True))
    print("\n".join(show(scores)))
    figures = Figures(
        shape=network.shape,
        num_parameters=num_parameters,
        weights_bytes=(options.out / "model.safetensors").stat().st_size,
        num_steps=options.steps,
        num_tokens=options.steps * TOKENS_PER_STEP,
        elapsed_s=elapsed_s,
        cpu_s=cpu_s,
        num_threads=options.threads,
        start=str(options.start or ""),
        scores=scores,
        samples=samples,
    )
    (options.out / "README.md").write_text(build_card(figures, MAX_LETTERS))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
