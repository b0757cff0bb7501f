"""Whole engines: how long a start, a load, a wake and a token take.

Knows the wire to engine processes (by `bench/runtime`) and shapes of models; does not know kernels.
Checkpoints have random weights, written as one block over and over: only their sizes matter here.
"""

from __future__ import annotations

import json
import math
import os
import random
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from figures import Figure
from run import Engine, Load, measure_load, measure_requests, start_engine, wait_until_loaded
from stand import Stand

from stoker_runtime import wire
from stoker_runtime.schedule.params import SamplingParams
from support.checkpoints import LlamaShape, build_config, tensor_shapes, write_tokenizer

SHAPES = {
    "0.6B": LlamaShape(151936, 1024, 3072, 28, 16, 8, 128, 8192, torch_dtype="bfloat16"),
    "1.7B": LlamaShape(151936, 2048, 6144, 28, 16, 8, 128, 8192, torch_dtype="bfloat16"),
    "8B": LlamaShape(
        128256, 4096, 14336, 32, 32, 8, 128, 8192, tie_word_embeddings=False, torch_dtype="bfloat16"
    ),
}
DRY = LlamaShape(1024, 64, 96, 1, 4, 2, 16, 1024, torch_dtype="bfloat16")
"""Of every model in a dry run."""
BITS = {"none": 16.0, "int4": 4.75}
"""Of one weight, scales included; int4 rounds while loading in groups of 32."""
START_GOALS = {"0.6B": 3.0, "1.7B": 3.5, "8B": 6.0}
LOAD_GOALS = {"0.6B": 1.0, "1.7B": 1.5, "8B": 2.5}
WAKE_GOAL = 0.5
NUM_MIXED = 256
_BLOCK_BYTES = 64 << 20


def write_random(folder: Path, shape: LlamaShape) -> Path:
    """A checkpoint whose tensors repeat one block of random bfloat16 numbers."""
    done = folder / ".complete"
    if done.exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(build_config(shape)))
    write_tokenizer(folder, 320)
    header, at = {}, 0
    for name, dims in tensor_shapes(shape).items():
        size = 2 * math.prod(dims)
        header[name] = {"dtype": "BF16", "shape": dims, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        block = random_block()
        for start in range(0, at, _BLOCK_BYTES):
            file.write(block[: min(_BLOCK_BYTES, at - start)])
    done.touch()
    return folder


def random_block() -> bytes:
    """bfloat16 numbers of either sign, 1/128 to 1/32: low bytes random, exponents chosen."""
    low = os.urandom(_BLOCK_BYTES // 2)
    signs = os.urandom(_BLOCK_BYTES // 2).translate(bytes(0x3C | (i & 0x80) for i in range(256)))
    block = bytearray(_BLOCK_BYTES)
    block[0::2], block[1::2] = low, signs
    return bytes(block)


@dataclass(frozen=True)
class Request:
    """Tokens in and out."""

    prompt: list[int]
    num_made: int


def mix(is_dry: bool) -> list[Request]:
    """nano-vllm's: 100 to 1024 random tokens in, as many out, 256 times (its bench.py)."""
    dice, count, most = random.Random(0), 4 if is_dry else NUM_MIXED, 24 if is_dry else 1024
    least = min(100, most // 2)
    return [
        Request([dice.randrange(3, 300) for _ in range(dice.randint(least, most))],
                dice.randint(least, most))
        for _ in range(count)
    ]  # fmt: skip


def checkpoint(stand: Stand, name: str) -> Path:
    """The model of a size, written once."""
    shape = DRY if stand.is_dry else SHAPES[name]
    return write_random(stand.folder / ("dry" if stand.is_dry else name), shape)


def flags(stand: Stand, quantization: str = "none") -> list[str]:
    """Of every engine here."""
    device = ("--device", "cpu" if stand.is_dry else "cuda")
    some = [*device, "--max-num-seqs", "256", "--max-batched-tokens", "8192"]
    if stand.is_dry:
        some += ["--kv-cache-tokens", "1024"]
    return some if quantization == "none" else [*some, "--quantization", quantization]


def measure_decode(stand: Stand) -> Iterator[Figure]:
    """The part `decode`: 8B as stored and in int4, beside what the copy rate allows."""
    rates: dict[str, float] = {}
    shape = DRY if stand.is_dry else SHAPES["8B"]
    weights = sum(
        math.prod(dims) for name, dims in tensor_shapes(shape).items() if "embed" not in name
    )
    long = Load(2, 40, 4) if stand.is_dry else Load(32, 4000, 64)
    for quantization, bits in BITS.items():
        engine = start_engine(checkpoint(stand, "8B"), flags(stand, quantization))
        wait_until_loaded(engine)
        measure_load(engine, Load(1, 64, 16))
        time.sleep(0 if stand.is_dry else 3)  # graphs are recorded when there is nothing to do
        rates[quantization] = measure_load(engine, Load(1, 64, 16 if stand.is_dry else 256))[1]
        limit = stand.copied_bytes_per_s / (weights * bits / 8)
        what = f"8B, {quantization}, 1 stream"
        yield Figure(what, rates[quantization], "tokens/s")
        yield Figure(f"{what}, of the limit", rates[quantization] / limit, "", 0.75)
        yield Figure(
            f"8B, {quantization}, {long.streams} streams at {long.prompt}",
            measure_load(engine, long)[1], "tokens/s",
        )  # fmt: skip
        engine.stop()
    yield Figure("8B, 1 stream, int4 over bf16", rates["int4"] / rates["none"], "", 2.2)


def measure_starts(stand: Stand) -> Iterator[Figure]:
    """The part `starts`: a fresh start by phase, with weights in the page cache."""
    for name, goal in START_GOALS.items():
        folder = checkpoint(stand, name)
        engine = start_engine(folder, flags(stand))
        for phase, seconds in wait_until_loaded(engine).items():
            yield Figure(f"{name}, fresh, until {phase}", seconds, "s")
        measure_load(engine, Load(1, 16, 1))
        first = time.time() - engine.started_at
        yield Figure(f"{name}, fresh, until a first token", first, "s", goal, wants_less=True)
        engine.stop()


def measure_standbys(stand: Stand) -> Iterator[Figure]:
    """The part `standbys`: `/load` on a process that waits, and wakes from host memory."""
    for name, goal in LOAD_GOALS.items():
        engine = start_standby(stand)
        wish = ["--model", str(checkpoint(stand, name)), *flags(stand)]
        taken = order(engine, wire.Load(wish))
        what = f"{name}, load on a standby until a first token"
        yield Figure(what, taken, "s", goal, wants_less=True)
        engine.stop()
    engine = start_engine(checkpoint(stand, "8B"), flags(stand, "int4"))
    wait_until_loaded(engine)
    measure_load(engine, Load(1, 16, 2))
    wire.send(engine.socket, wire.Sleep(1))
    wait_for(engine, wire.Settled)
    taken = order(engine, wire.Wake())
    yield Figure("8B int4, wake until a first token", taken, "s", WAKE_GOAL, wants_less=True)
    engine.stop()


def measure_mix(stand: Stand) -> Iterator[Figure]:
    """The part `mix`: 256 requests at once, with 0.6B as nano-vllm measures it, and with 8B."""
    for name in ("0.6B", "8B"):
        engine = start_engine(checkpoint(stand, name), flags(stand))
        wait_until_loaded(engine)
        measure_load(engine, Load(1, 64, 16))
        time.sleep(0 if stand.is_dry else 3)
        yield Figure(mix_name(name), run_mix(engine, mix(stand.is_dry)), "tokens/s")
        engine.stop()


def mix_name(model: str) -> str:
    """The figure that peers are compared with."""
    return f"{model}, nano-vllm's mix"


def run_mix(engine: Engine, requests: list[Request]) -> float:
    """Tokens per second over all requests, sent at once."""
    wishes = [
        (one.prompt, SamplingParams(max_tokens=one.num_made, temperature=0.6, ignore_eos=True))
        for one in requests
    ]
    return measure_requests(engine, wishes)[1]


def start_standby(stand: Stand) -> Engine:
    """An engine process without a model, once it has imported all it will."""
    engine = start_engine(None, flags(stand)[:2])
    wait_for(engine, wire.Settled)
    return engine


def wait_for(engine: Engine, kind: type) -> None:
    """Until a message of that kind comes."""
    while not any(isinstance(message, kind) for message in engine.receive()):
        pass


def order(engine: Engine, message: wire.Load | wire.Wake) -> float:
    """Seconds from an order to the first token of a request that is sent when it is done."""
    started = time.monotonic()
    wire.send(engine.socket, message)
    wait_for(engine, wire.Loaded)
    measure_load(engine, Load(1, 16, 1))
    return time.monotonic() - started
