"""What a step costs one thread, part by part: processor time, which other processes disturb little.

Knows the runner and the native library's program; does not know the engine or a server. Runs on the
135M random Llama (or on the folder given as argument), as stored and with rounded weights. A figure
is the least of some runs, in milliseconds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from run import CACHE

from e2e.harness.random_llama import make_random_llama
from stoker_runtime.engine.runner import Runner
from stoker_runtime.kernels.native import Tiles
from stoker_runtime.schedule.step import Chunk
from support.engines import make_model

BLOCK = 16
RUNS = 4
STEPS = {
    "1 stream": (1, 160, 1),
    "8 streams": (8, 160, 1),
    "32 streams": (32, 256, 1),
    "4 prompts of 128": (4, 0, 128),
    "prompt of 512": (1, 0, 512),
}
"""Sequences, tokens of each that are in the cache, tokens of each to compute."""


def make_step(num_seqs: int, cached: int, new: int) -> list[Chunk]:
    """One step of equally long sequences."""
    blocks = -(-(cached + new) // BLOCK)
    tables = [tuple(range(i * blocks, (i + 1) * blocks)) for i in range(num_seqs)]
    ids = [tuple((7 * token + i) % 1000 for token in range(new)) for i in range(num_seqs)]
    return [Chunk(str(i), cached, ids[i], tables[i], samples=True) for i in range(num_seqs)]


def least_ms(work: Callable[[], object]) -> float:
    """Processor time of this thread."""
    times = []
    for _ in range(RUNS):
        began_at = time.thread_time()
        work()
        times.append(time.thread_time() - began_at)
    return 1e3 * min(times)


def measure(runner: Runner, step: list[Chunk]) -> Iterator[tuple[str, float]]:
    """The whole step, and its parts where the layers are one call."""
    yield "step", least_ms(lambda: runner.run(step))
    hidden = runner.compute(step)
    yield "head", least_ms(lambda: runner.score(hidden[: len(step)]))
    program = runner._program
    if program is None or runner._library is None:
        return
    model, plan = runner.model, runner._plan_tiles(step, runner._library)
    ids = torch.tensor([id for chunk in step for id in chunk.token_ids])
    positions = torch.tensor([p for chunk in step for p in range(chunk.start, chunk.end)])
    x, angles = model.embed_tokens(ids), model.angles(positions)
    nothing = Tiles(plan.tiles.tiles[:0], plan.tiles.tables)
    layers = least_ms(lambda: program.run(x.clone(), angles, plan.slots, plan.tiles))
    rest = least_ms(lambda: program.run(x.clone(), angles, plan.slots, nothing))
    yield "attention", layers - rest
    yield "products and the rest", rest


@torch.inference_mode()
def main() -> None:
    """Print a line per step and way of storing weights."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else make_random_llama(CACHE)
    for quantization in ("none", "int8", "int4"):
        runner = Runner(make_model(folder, quantization=quantization), 600, BLOCK)
        for name, shape in STEPS.items():
            parts = ", ".join(f"{part} {ms:.1f}" for part, ms in measure(runner, make_step(*shape)))
            print(f"{quantization:5} {name:17} ms: {parts}", flush=True)


if __name__ == "__main__":
    main()
