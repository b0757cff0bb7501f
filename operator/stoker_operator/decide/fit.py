"""Whether a model fits: bytes of weights and of KV cache from a checkpoint's `config.json`.

Knows the arithmetic of decoder checkpoints; reads no file and knows no GPU by name. The first-order
rule is P × bits / 8; here every tensor is counted, quantised ones with their scales, and what
tensor parallelism splits apart from what each GPU holds whole. Called by `stoker fit`.

Worked example: 32 layers, 8 KV heads of 128 in bf16 take 2 × 32 × 8 × 128 × 2 = 131,072 bytes a
token, so 8,192 tokens take exactly 1 GiB.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from stoker_api.demand import Room

GIB = 2**30
USABLE_SHARE = 0.9
"""Share of a GPU's memory that may be filled: the rest is the CUDA context and fragmentation."""
ACTIVATION_TOKENS = 2048
"""Prompt tokens of the widest step that activations are reserved for."""
WEIGHT_BITS = {"None": 16.0, "FP8": 8.0, "Int8": 8.0, "Int4": 4.0}
GROUP_SIZE = 128
"""Rows that share a scale in 4-bit checkpoints."""
KV_BYTES = {"Auto": 2.0, "FP8": 1.0, "Int8": 1.0}
SCALE_BYTES = 4
"""Of each head of each token in a cache of 8 bits."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What the arithmetic needs of a `config.json`."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    tied: bool = False
    """Whether the output head is the embedding."""
    qkv_bias: bool = False
    experts: int = 0
    """Feed-forward experts per layer; 0 for a dense model."""
    expert_intermediate: int = 0

    @property
    def linear_parameters(self) -> int:
        """Parameters of the projections, which quantisation makes smaller."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + self._feed_forward)

    @property
    def whole_parameters(self) -> int:
        """Embedding, head, norms, biases and routers, which stay in 16 bits."""
        tables = self.vocab * self.hidden * (1 if self.tied else 2)
        norms = self.hidden * (2 * self.layers + 1)
        biases = self.head_dim * (self.heads + 2 * self.kv_heads) * self.layers
        routers = self.layers * self.hidden * self.experts
        return tables + norms + routers + (biases if self.qkv_bias else 0)

    @property
    def linear_rows(self) -> int:
        """Output rows of the projections, of all layers: 8-bit formats have a scale for each."""
        attention = self.head_dim * (self.heads + 2 * self.kv_heads) + self.hidden
        width = self.expert_intermediate if self.experts else self.intermediate
        feed_forward = max(1, self.experts) * (2 * width + self.hidden)
        return self.layers * (attention + feed_forward)

    @property
    def _feed_forward(self) -> int:
        if self.experts:
            return 3 * self.hidden * self.expert_intermediate * self.experts
        return 3 * self.hidden * self.intermediate


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


@dataclass(frozen=True, slots=True)
class Fit:
    """The arithmetic of one replica on GPUs of one size; bytes are per GPU."""

    weights_bytes: int
    kv_bytes_per_token: int
    activation_bytes: int
    usable_bytes: int
    tokens: int
    """Tokens of KV cache that the rest holds; 0 when even the weights do not fit."""
    max_model_len: int

    @property
    def fits(self) -> bool:
        """Whether one sequence of the full length finds room beside the weights."""
        return self.tokens >= self.max_model_len

    @property
    def sequences(self) -> int:
        """Sequences of the full length at once."""
        return self.tokens // self.max_model_len

    @property
    def total_bytes(self) -> int:
        """What one sequence of the full length needs on each GPU."""
        kv = self.kv_bytes_per_token * self.max_model_len
        return self.weights_bytes + self.activation_bytes + kv

    @property
    def message(self) -> str:
        """The sum in words, with what is missing or what is left."""
        kv = self.kv_bytes_per_token * self.max_model_len
        sums = (
            f"weights {_gib(self.weights_bytes)} + activations {_gib(self.activation_bytes)} "
            f"+ {self.max_model_len} tokens × {self.kv_bytes_per_token} B = {_gib(kv)} of KV cache"
        )
        total = self.total_bytes
        verdict = f"= {_gib(total)} of {_gib(self.usable_bytes)} usable per GPU"
        if self.fits:
            return f"{sums} {verdict}: {self.tokens} tokens of cache."
        return f"{sums} {verdict}: {_gib(total - self.usable_bytes)} too much."


def derive_shape(config: Mapping[str, Any]) -> Shape:
    """The shape of a Hugging Face `config.json`. Raises `KeyError` naming a field it lacks."""
    config = config.get("text_config", config)
    heads = int(config["num_attention_heads"])
    experts = int(config.get("num_local_experts") or config.get("num_experts") or 0)
    width = int(config["intermediate_size"])
    family = str(config.get("model_type", ""))
    return Shape(
        hidden=int(config["hidden_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or config["hidden_size"] // heads),
        intermediate=width,
        vocab=int(config["vocab_size"]),
        context=int(config.get("max_position_embeddings") or 2048),
        tied=bool(config.get("tie_word_embeddings", family.startswith("gemma"))),
        qkv_bias=bool(config.get("attention_bias", family == "qwen2")),
        experts=experts,
        expert_intermediate=int(config.get("moe_intermediate_size") or width) if experts else 0,
    )


def declared_quantization(config: Mapping[str, Any]) -> str:
    """What the checkpoint itself declares: `None`, `FP8`, `Int8` or `Int4`."""
    declared = config.get("quantization_config") or {}
    if declared.get("quant_method") == "fp8":
        return "FP8"
    groups = declared.get("config_groups") or {}
    bits = declared.get("bits")
    for group in groups.values():
        weights = group.get("weights") or {}
        bits = weights.get("num_bits")
        if weights.get("type") == "float" and bits == 8:
            return "FP8"
    return {4: "Int4", 8: "Int8"}.get(bits or 16, "None")


def weights_bytes(shape: Shape, quantization: str, gpus: int = 1) -> int:
    """Bytes of weights on each of `gpus` GPUs; vocabulary tables and projections are split."""
    bits = WEIGHT_BITS[quantization]
    linear = shape.linear_parameters * bits / 8
    if quantization == "Int4":
        linear += shape.linear_parameters / GROUP_SIZE * (2 + 0.5)
    elif quantization != "None":
        linear += 2 * shape.linear_rows
    tables = shape.vocab * shape.hidden * (1 if shape.tied else 2)
    held_whole = 2 * (shape.whole_parameters - tables)
    return math.ceil((linear + 2 * tables) / gpus) + held_whole


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
    weights = weights_bytes(shape, question.quantization, gpus)
    per_token = kv_bytes_per_token(shape, question.kv_dtype, gpus)
    logits = 4 * shape.vocab * 32
    activations = 2 * ACTIVATION_TOKENS * (4 * shape.hidden + 3 * shape.intermediate // gpus)
    usable = int(question.memory_bytes * USABLE_SHARE)
    left = usable - weights - activations - logits
    return Fit(
        weights_bytes=weights,
        kv_bytes_per_token=per_token,
        activation_bytes=activations + logits,
        usable_bytes=usable,
        tokens=max(0, left // per_token),
        max_model_len=question.max_model_len or shape.context,
    )


def suggest_fits(shape: Shape, question: Question) -> tuple[str, ...]:
    """What would fit instead, each change alone, cheapest first; the last names a larger GPU."""
    found = [
        *_first_fit(shape, _smaller(question)),
        *_first_fit(shape, _wider(shape, question)),
    ]
    fit = check_fit(shape, question)
    if 0 < fit.tokens < fit.max_model_len:
        found.append(f"engine.maxModelLen: {fit.tokens}")
    found.append(f"GPUs of {math.ceil(fit.total_bytes / USABLE_SHARE / GIB)} GiB")
    return tuple(found)


def _smaller(question: Question) -> Iterator[tuple[str, Question]]:
    """A smaller cache, then fewer bits of weights."""
    if question.kv_dtype == "Auto":
        yield "engine.kvCacheDtype: FP8", replace(question, kv_dtype="FP8")
    for name in ("FP8", "Int4"):
        if WEIGHT_BITS[name] < WEIGHT_BITS[question.quantization]:
            yield f"model.quantization: {name}", replace(question, quantization=name)


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
    return f"{count / GIB:.2f} GiB"
