"""Writes small random Llama checkpoint folders: config, weights, tokenizer, chat template.

Knows the Hugging Face file names and the safetensors layout; needs neither torch nor a download.
Used by runtime tests (tiny shapes) and by the cold start figures (a 135M shape).
"""

from __future__ import annotations

import json
import string
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WORDS = ("the", "and", "ing", "her", "stoker", "fire", "hello", "world", "one", "two")


@dataclass(frozen=True)
class LlamaShape:
    """The numbers of a Llama checkpoint; the defaults make one of about 130 thousand weights."""

    vocab_size: int = 320
    hidden_size: int = 64
    intermediate_size: int = 128
    num_hidden_layers: int = 2
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 16
    max_position_embeddings: int = 512
    tie_word_embeddings: bool = True
    attention_bias: bool = False
    mlp_bias: bool = False
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    torch_dtype: str = "float32"
    std: float = 0.15
    """Wide enough that the most likely token of a tiny model leads clearly."""
    seed: int = 0
    extra_config: dict[str, Any] = field(default_factory=dict)
    """Laid over `config.json`, for tests of odd or broken configs."""


def write_checkpoint(folder: Path, shape: LlamaShape | None = None, *, shards: int = 1) -> Path:
    """Write a whole checkpoint folder and return it."""
    shape = shape or LlamaShape()
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", build_config(shape))
    _write_json(
        folder / "generation_config.json",
        {"bos_token_id": 0, "eos_token_id": [2, 0], "pad_token_id": 0},
    )
    write_tokenizer(folder, shape.vocab_size)
    _write_shards(folder, shape, shards)
    return folder


def build_config(shape: LlamaShape) -> dict[str, Any]:
    """What `config.json` holds."""
    names = [n for n in LlamaShape.__dataclass_fields__ if n not in {"std", "seed", "extra_config"}]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 2,
        **{name: getattr(shape, name) for name in names},
        **shape.extra_config,
    }


def random_weights(shape: LlamaShape) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """All tensors in the checkpoint's order, the same ones for the same shape and seed."""
    rng = np.random.default_rng(shape.seed)
    for name, size in tensor_shapes(shape).items():
        values = rng.standard_normal(size, dtype=np.float32) * np.float32(shape.std)
        yield name, values + np.float32(1.0) if name.endswith("norm.weight") else values


def tensor_shapes(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors."""
    hidden = shape.hidden_size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (shape.vocab_size, hidden)}
    for index in range(shape.num_hidden_layers):
        layer = _layer_shapes(shape)
        shapes |= {f"model.layers.{index}.{name}": size for name, size in layer.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not shape.tie_word_embeddings:
        shapes["lm_head.weight"] = (shape.vocab_size, hidden)
    return shapes


def _layer_shapes(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    hidden, inter = shape.hidden_size, shape.intermediate_size
    q, kv = shape.num_attention_heads * shape.head_dim, shape.num_key_value_heads * shape.head_dim
    linear = {
        "self_attn.q_proj": (q, hidden, shape.attention_bias),
        "self_attn.k_proj": (kv, hidden, shape.attention_bias),
        "self_attn.v_proj": (kv, hidden, shape.attention_bias),
        "self_attn.o_proj": (hidden, q, shape.attention_bias),
        "mlp.gate_proj": (inter, hidden, shape.mlp_bias),
        "mlp.up_proj": (inter, hidden, shape.mlp_bias),
        "mlp.down_proj": (hidden, inter, shape.mlp_bias),
    }
    shapes: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}
    for name, (rows, columns, bias) in linear.items():
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)
    shapes["post_attention_layernorm.weight"] = (hidden,)
    return shapes


def _write_shards(folder: Path, shape: LlamaShape, shards: int) -> None:
    tensors = dict(random_weights(shape))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors, shape.torch_dtype)
        return
    names = list(tensors)
    weight_map = {}
    for index in range(shards):
        file = f"model-{index + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[index::shards]}
        write_safetensors(folder / file, part, shape.torch_dtype)
        weight_map |= dict.fromkeys(part, file)
    _write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": weight_map})


def write_safetensors(
    path: Path, tensors: dict[str, NDArray[np.float32]], dtype: str = "float32"
) -> None:
    """Write tensors in the safetensors layout: header length, JSON header, bytes."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    payloads, offset = [], 0
    for name, values in tensors.items():
        code, payload = _encode(values, dtype)
        end = offset + len(payload)
        header[name] = {"dtype": code, "shape": list(values.shape), "data_offsets": [offset, end]}
        payloads.append(payload)
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(payloads)


def _encode(values: NDArray[np.float32], dtype: str) -> tuple[str, bytes]:
    match dtype:
        case "float32":
            return "F32", values.astype("<f4").tobytes()
        case "float16":
            return "F16", values.astype("<f2").tobytes()
        case "bfloat16":
            bits = values.view(np.uint32)
            rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # round half to even
            return "BF16", rounded.astype("<u2").tobytes()
        case _:
            raise ValueError(f"`dtype` must be float32, float16 or bfloat16, was {dtype}")


def write_tokenizer(folder: Path, vocab_size: int) -> None:
    """Write `tokenizer.json` (byte-level BPE of exactly `vocab_size` ids) and its config."""
    byte_level = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": True,
    }
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(id, text) for id, text in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": _byte_level_model(vocab_size),
    }
    _write_json(folder / "tokenizer.json", document)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SPECIAL_TOKENS[0],
        "eos_token": SPECIAL_TOKENS[2],
        "pad_token": SPECIAL_TOKENS[0],
        "chat_template": CHAT_TEMPLATE,
        "model_max_length": 512,
    }
    _write_json(folder / "tokenizer_config.json", config)


def _byte_level_model(vocab_size: int) -> dict[str, Any]:
    vocab, merges = _byte_level_vocab(vocab_size)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": vocab,
        "merges": merges,
    }


def _added_token(id: int, text: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": text, **flags, "special": True}


def _byte_level_vocab(size: int) -> tuple[dict[str, int], list[list[str]]]:
    """Special tokens, 256 bytes, then merges: the words' prefixes first, letter groups after."""
    tokens = dict.fromkeys([*SPECIAL_TOKENS, *_byte_alphabet()])
    merges: list[list[str]] = []
    for left, right in _merges():
        if len(tokens) >= size:
            break
        if left + right not in tokens:
            tokens[left + right] = None
            merges.append([left, right])
    if len(tokens) != size:
        raise ValueError(f"`vocab_size` must be ≥ {len(tokens)} and ≤ 300000, was {size}")
    return {token: id for id, token in enumerate(tokens)}, merges


def _merges() -> Iterator[tuple[str, str]]:
    letters = string.ascii_lowercase
    for word in _WORDS:
        yield from ((word[:end], word[end]) for end in range(1, len(word)))
        yield "Ġ", word
    pairs = [a + b for a in letters for b in letters]
    yield from ((pair[0], pair[1]) for pair in pairs)
    yield from ((pair, c) for pair in pairs for c in letters)
    yield from (("Ġ", pair + c) for pair in pairs for c in letters)
    yield from ((a, b) for a in pairs for b in pairs)


def _byte_alphabet() -> list[str]:
    """The 256 printable characters that stand for bytes in GPT-2's byte-level BPE."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = range(256, 256 + 256 - len(printable))
    return sorted(chr(code) for code in [*printable, *shifted])


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False), encoding="utf-8")
