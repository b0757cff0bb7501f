"""Scores tiny-chat, here or behind an OpenAI endpoint, on its held-out questions.

Grades by exact match of the whole answer. Locally it decodes greedily with the reference network,
`python models/evaluate.py`; a server is asked at temperature 0,
`python models/evaluate.py --url http://localhost:8000/v1 --model tiny-chat`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tinychat.example import Example, is_right
from tinychat.heldout import read_heldout, score, show

MODEL_FOLDER = Path(__file__).parent / "tiny-chat"


def ask_locally(folder: Path, questions: Sequence[str]) -> list[str]:
    """Answers of the checkpoint in `folder`, by plain torch on one thread."""
    import torch  # here, because asking a server needs no torch

    from tinychat.checkpoint import load_checkpoint
    from tinychat.decoding import answer_all

    torch.set_num_threads(1)
    network, tokenizer = load_checkpoint(folder)
    return answer_all(network, tokenizer, questions)


def ask_server(url: str, model: str, questions: Sequence[str], num_at_once: int) -> list[str]:
    """Answers of an OpenAI endpoint; its key is taken from OPENAI_API_KEY."""
    from openai import OpenAI  # here, because the local way works without it

    key = os.environ.get("OPENAI_API_KEY", "none")
    with OpenAI(base_url=url, api_key=key) as client, ThreadPoolExecutor(num_at_once) as pool:

        def ask(question: str) -> str:
            reply = client.chat.completions.create(
                model=model, messages=[{"role": "user", "content": question}], temperature=0
            )
            return reply.choices[0].message.content or ""

        return list(pool.map(ask, questions))


def show_mistakes(examples: Sequence[Example], answers: Sequence[str]) -> None:
    """Every wrong answer beside the right one."""
    for example, answer in zip(examples, answers, strict=True):
        if not is_right(example.answer, answer):
            print(f"{example.task}: {example.question}")
            print(f"  said     {answer}\n  expected {example.answer}")


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=MODEL_FOLDER, help="the checkpoint to load")
    parser.add_argument("--heldout", type=Path, help="questions (default: the folder's own)")
    parser.add_argument("--url", help="ask this OpenAI endpoint (…/v1) instead of loading weights")
    parser.add_argument("--model", default="tiny-chat", help="the served name, with --url")
    parser.add_argument("--at-once", type=int, default=8, help="concurrent requests, with --url")
    parser.add_argument("--at-least", type=float, default=0.0, help="fail below this share")
    parser.add_argument("--mistakes", action="store_true", help="print every wrong answer")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Ask, grade, print the table; 1 if the overall score is below what was demanded."""
    options = parse_arguments(arguments)
    examples = read_heldout(options.heldout or options.folder / "heldout.jsonl")
    questions = [example.question for example in examples]
    started_at = time.monotonic()
    if options.url:
        answers = ask_server(options.url, options.model, questions, options.at_once)
    else:
        answers = ask_locally(options.folder, questions)
    scores = score(examples, answers)
    print("\n".join(show(scores)))
    print(f"\n{len(questions)} questions in {time.monotonic() - started_at:.1f} s")
    if options.mistakes:
        show_mistakes(examples, answers)
    return int(scores[-1].share < options.at_least)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
