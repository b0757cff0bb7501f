"""Whether a model fits: bytes of weights and of KV cache from the shape of a checkpoint.

Knows the arithmetic of decoders on GPUs; reads no file and knows no GPU by name. The first-order
rule is P × bits / 8; here every tensor is counted, quantised ones with their scales, and what
tensor parallelism splits apart from what each GPU holds whole. Called by `stoker fit`.

Worked example: 32 layers, 8 KV heads of 128 in bf16 take 2 × 32 × 8 × 128 × 2 = 131,072 bytes a
token, so 8,192 tokens take exactly 1 GiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from stoker_api.demand import Room
from stoker_operator.decide.shape import Shape

GIB = 2**30
USABLE_SHARE = 0.9
"""Share of a GPU's memory that may be filled, as the runtime's `gpuMemoryUtilization`."""
CONTEXT_BYTES = GIB
"""CUDA's context, its libraries and recorded steps; the runtime plans with as much."""
LINK_BYTES = GIB // 2
"""Buffers between the GPUs of one replica."""
ACTIVATION_TOKENS = 2048
"""Prompt tokens of the widest step that activations are reserved for."""
WEIGHT_BITS = {"None": 16.0, "FP8": 8.0, "Int8": 8.0, "Int4": 4.0}
GROUP_SIZE = 32
"""Columns that share a scale where the runtime or `stoker quantize` rounds to 4 bits."""
KV_BYTES = {"Auto": 2.0, "FP8": 1.0, "Int8": 1.0}
SCALE_BYTES = 4
"""Of each head of each token in a cache of 8 bits."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one replica would run on, and how."""

    memory_bytes: int
    """Of each GPU."""
    quantization: str = "None"
    gpus: int = 1
    """GPUs that one replica is split over."""
    max_model_len: int = 0
    """0: the model's own."""
    kv_dtype: str = "Auto"
    is_stored: bool = False
    """Whether the checkpoint itself is quantised; else it is rounded while it is loaded."""
    group_size: int = GROUP_SIZE
    """Columns that share a scale; 0: all of a row."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The arithmetic of one replica on GPUs of one size; bytes are per GPU."""

    weights_bytes: int
    kv_bytes_per_token: int
    activation_bytes: int
    other_bytes: int
    """What neither model nor requests take."""
    loading_bytes: int
    """Held while weights are rounded: projections as they were read and as they became."""
    usable_bytes: int
    tokens: int
    """Tokens of KV cache that the rest holds; 0 when even the weights do not fit."""
    max_model_len: int

    @property
    def fits(self) -> bool:
        """Whether it can be loaded, and one sequence of the full length finds room then."""
        return self.tokens >= self.max_model_len and self.loads

    @property
    def loads(self) -> bool:
        """Whether there is room while weights are rounded."""
        return self.loading_bytes <= self.usable_bytes

    @property
    def sequences(self) -> int:
        """Sequences of the full length at once."""
        return self.tokens // self.max_model_len if self.loads else 0

    @property
    def total_bytes(self) -> int:
        """What one sequence of the full length needs on each GPU."""
        kv = self.kv_bytes_per_token * self.max_model_len
        return self.weights_bytes + self.activation_bytes + self.other_bytes + kv

    @property
    def message(self) -> str:
        """The sum in words, with what is missing or what is left."""
        kv, total = self.kv_bytes_per_token * self.max_model_len, self.total_bytes
        sums = (
            f"weights {_gib(self.weights_bytes)} + activations {_gib(self.activation_bytes)} "
            f"+ context and libraries {_gib(self.other_bytes)} "
            f"+ {self.max_model_len} tokens × {self.kv_bytes_per_token} B = {_gib(kv)} of KV cache "
            f"= {_gib(total)} of {_gib(self.usable_bytes)} usable per GPU"
        )
        if total > self.usable_bytes:
            return f"{sums}: {_gib(total - self.usable_bytes)} too much."
        if not self.loads:
            missing = _gib(self.loading_bytes - self.usable_bytes)
            return f"{sums}; while rounding {_gib(self.loading_bytes)}: {missing} too much."
        return f"{sums}: {self.tokens} tokens of cache."


def weights_bytes(shape: Shape, quantization: str, gpus: int = 1, group_size: int = 0) -> int:
    """Bytes of weights on each of `gpus` GPUs; vocabulary tables and projections are split.

    group_size: columns that share a scale of 16 bits and a zero; 0: all of a row.
    """
    bits = WEIGHT_BITS[quantization]
    linear = shape.linear_parameters * bits / 8
    if group_size:
        linear += shape.linear_parameters / group_size * (2 + bits / 8)
    elif quantization != "None":
        linear += 2 * shape.linear_rows
    held_whole = 2 * (shape.whole_parameters - shape.tables)
    return math.ceil((linear + 2 * shape.tables) / gpus) + held_whole


def kv_bytes_per_token(shape: Shape, kv_dtype: str = "Auto", gpus: int = 1) -> int:
    """Bytes of keys and values of one token on each GPU; every GPU has at least one KV head."""
    heads = max(1, math.ceil(shape.kv_heads / gpus))
    scale_bytes = 0 if kv_dtype == "Auto" else SCALE_BYTES
    per_head = shape.head_dim * KV_BYTES[kv_dtype] + scale_bytes
    return math.ceil(2 * shape.layers * heads * per_head)


def can_split(shape: Shape, gpus: int) -> bool:
    """Whether tensor parallelism divides the heads evenly; KV heads may be repeated."""
    shares = shape.kv_heads % gpus == 0 or gpus % shape.kv_heads == 0
    return shape.heads % gpus == 0 and shares


def check_fit(shape: Shape, question: Question) -> Fit:
    """The arithmetic of one replica."""
    gpus = question.gpus
    weights = weights_bytes(shape, question.quantization, gpus, _group_size(question))
    rounds = question.quantization != "None" and not question.is_stored
    others = CONTEXT_BYTES + (LINK_BYTES if gpus > 1 else 0)
    per_token = kv_bytes_per_token(shape, question.kv_dtype, gpus)
    width = max(shape.intermediate, shape.expert_intermediate, shape.shared_intermediate)
    activations = 2 * ACTIVATION_TOKENS * (4 * shape.hidden + 3 * width // gpus)
    activations += 4 * shape.vocab * 32
    usable = int(question.memory_bytes * USABLE_SHARE)
    left = usable - weights - activations - others
    return Fit(
        weights_bytes=weights,
        kv_bytes_per_token=per_token,
        activation_bytes=activations,
        other_bytes=others,
        loading_bytes=weights + others + (2 * shape.linear_parameters // gpus if rounds else 0),
        usable_bytes=usable,
        tokens=max(0, left // per_token),
        max_model_len=question.max_model_len or shape.context,
    )


def _group_size(question: Question) -> int:
    """Of 8 bits only checkpoints have groups: the runtime gives each row a scale."""
    is_grouped = question.is_stored or question.quantization == "Int4"
    return question.group_size if is_grouped else 0


def suggest_fits(shape: Shape, question: Question) -> tuple[str, ...]:
    """What would fit instead, each change alone, cheapest first; the last names a larger GPU."""
    found = [
        *_first_fit(shape, _smaller(question)),
        *_first_fit(shape, _wider(shape, question)),
    ]
    fit = check_fit(shape, question)
    if 0 < fit.tokens < fit.max_model_len and fit.loads:
        found.append(f"engine.maxModelLen: {fit.tokens}")
    needed = max(fit.total_bytes, fit.loading_bytes)
    found.append(f"GPUs of {math.ceil(needed / USABLE_SHARE / GIB)} GiB")
    return tuple(found)


def _smaller(question: Question) -> Iterator[tuple[str, Question]]:
    """A smaller cache, then fewer bits of weights: rounded while loading, or beforehand.

    Whole numbers of 8 bits take what floats of 8 bits do, and every GPU has them.
    """
    if question.kv_dtype == "Auto":
        yield "engine.kvCacheDtype: Int8", replace(question, kv_dtype="Int8")
    if question.is_stored:
        return
    for name in ("Int8", "Int4"):
        if WEIGHT_BITS[name] < WEIGHT_BITS[question.quantization]:
            yield f"model.quantization: {name}", replace(question, quantization=name)
    for bits in (8, 4):
        words = f"a checkpoint stored in {bits} bits (`stoker quantize --bits {bits}`)"
        yield words, replace(question, quantization=f"Int{bits}", is_stored=True)


def _wider(shape: Shape, question: Question) -> Iterator[tuple[str, Question]]:
    for gpus in (2, 4, 8, 16):
        if gpus > question.gpus and can_split(shape, gpus):
            yield f"resources.gpus: {gpus}", replace(question, gpus=gpus)


def _first_fit(shape: Shape, others: Iterable[tuple[str, Question]]) -> list[str]:
    return [name for name, other in others if check_fit(shape, other).fits][:1]


def describe_room(room: Room) -> str:
    """What a runtime found, in words: the sum, and what it is enough for."""
    cache = room.tokens * room.kv_bytes_per_token
    sequences = max(1, room.tokens // room.max_model_len)
    return (
        f"Weights {_gib(room.weight_bytes)} + {room.tokens} tokens × {room.kv_bytes_per_token} B = "
        f"{_gib(cache)} of KV cache, of {_gib(room.memory_bytes)} that were free: "
        f"{sequences} sequences of {room.max_model_len} tokens."
    )


def _gib(count: float) -> str:
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 2**20:.1f} MiB"
