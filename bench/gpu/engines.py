"""Whole engines on a GPU: whether they answer as a CPU does, how long a start and a token take.

Knows the wire to engine processes (by `bench/runtime`) and shapes of models; does not know kernels.
Checkpoints have random weights, written as one block over and over: only their sizes matter here.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from run import Load, measure_load, start_engine, wait_until_loaded

from support.checkpoints import LlamaShape, build_config, tensor_shapes, write_tokenizer

SHAPES = {
    "0.6B": LlamaShape(151936, 1024, 3072, 28, 16, 8, 128, 8192, torch_dtype="bfloat16"),
    "1.7B": LlamaShape(151936, 2048, 6144, 28, 16, 8, 128, 8192, torch_dtype="bfloat16"),
    "8B": LlamaShape(
        128256, 4096, 14336, 32, 32, 8, 128, 8192, tie_word_embeddings=False, torch_dtype="bfloat16"
    ),
}
WEIGHTS = {"0.6B": 0.6e9, "1.7B": 1.7e9, "8B": 7.5e9}
"""Read for each token: all but the embedding, which is looked up."""
BITS = {"none": 16.0, "int8": 8.4, "int4": 4.75, "fp8": 8.0}
"""Of one weight, scales included; int4 rounds while loading in groups of 32."""
LOADS = {
    "1 stream": Load(1, 64, 128),
    "32 streams at 4k": Load(32, 4000, 64),
    "256 mixed": Load(256, 560, 560),
}
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


def measure(folder: Path, names: Sequence[str], copied_bytes_per_s: float) -> Iterator[list[str]]:
    """Rows: model, storage, start by phase, tokens/s of each load, share of the bandwidth limit."""
    for name in names:
        checkpoint = write_random(folder / name, SHAPES[name])
        for quantization in ("none", "int4") if name != "8B" else BITS:
            flags = ["--device", "cuda", "--max-num-seqs", "256", "--max-batched-tokens", "8192"]
            if quantization != "none":
                flags += ["--quantization", quantization]
            engine = start_engine(checkpoint, flags)
            phases = wait_until_loaded(engine)
            measure_load(engine, Load(1, 64, 16))  # graphs are captured after the first answer
            rates = {
                load: measure_load(engine, one)[1]
                for load, one in LOADS.items()
                if name == "8B" or load == "1 stream"
            }
            engine.stop()
            limit = copied_bytes_per_s / (WEIGHTS[name] * BITS[quantization] / 8)
            yield [
                name, quantization, " · ".join(f"{phase} {s:.2f}" for phase, s in phases.items()),
                " · ".join(f"{load}: {rate:.0f}" for load, rate in rates.items()),
                f"{rates['1 stream'] / limit:.0%}",
            ]  # fmt: skip
