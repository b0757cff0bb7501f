"""What the prefix cache saves: from a prompt to its first token, uncached and cached by turns.

Knows one server and prompts as token ids; does not know blocks. Starts a real server on the 135M
random Llama (or on the folder given as argument) and asks 528 tokens, of which 512 are new or known
already. Prints medians and their ratio.
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from run import CACHE

from e2e.harness.random_llama import make_random_llama
from support.runtime_server import RuntimeServer, run_server

ROUNDS = 8
BEGINNING_TOKENS = 512
QUESTION_TOKENS = 16
VOCAB = 49152


def draw_ids(count: int) -> list[int]:
    """Tokens that nobody has asked before."""
    return [random.randrange(3, VOCAB) for _ in range(count)]


def ask(server: RuntimeServer, beginning: list[int]) -> tuple[float, int]:
    """Seconds to the first token after a new question, and how many tokens came from the cache."""
    prompt = beginning + draw_ids(QUESTION_TOKENS)
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 1, "temperature": 0}
    began_at = time.monotonic()
    answer = server.request("POST", "/v1/completions", body)
    seconds = time.monotonic() - began_at
    assert answer.status == 200, answer.body
    return seconds, answer.json["usage"]["prompt_tokens_details"]["cached_tokens"]


def main() -> None:
    """Print one line each."""
    model = Path(sys.argv[1]) if len(sys.argv) > 1 else make_random_llama(CACHE)
    seconds: dict[int, list[float]] = {0: [], BEGINNING_TOKENS: []}
    with run_server(model, Path(tempfile.gettempdir()) / "stoker-prefix.log") as server:
        server.wait_for("/ready", 200, 600)
        ask(server, draw_ids(BEGINNING_TOKENS))
        for _ in range(ROUNDS):
            beginning = draw_ids(BEGINNING_TOKENS)
            for expected in seconds:
                took_s, cached = ask(server, beginning)
                assert cached == expected, f"{cached} tokens came from the cache"
                seconds[expected].append(took_s)
    uncached, cached_s = (statistics.median(one) for one in seconds.values())
    print(f"528 tokens → first token over HTTP, {ROUNDS} rounds by turns")
    print(f"  uncached          {uncached:6.3f} s")
    print(f"  512 in the cache  {cached_s:6.3f} s   {cached_s / uncached:5.3f} of uncached")


if __name__ == "__main__":
    main()
