"""What a checkpoint's `config.json` says about the network, checked and without torch.

Knows the Llama family's fields in their old and new spellings; does not know tensors or files of
weights. Read by the engine process first of all, so that a model that can't be run is refused by
name before a byte of it is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken, CheckpointNotFound
from stoker_runtime.quant.spec import QuantSpec, parse_quantization

Dtype = Literal["float32", "bfloat16", "float16"]
ITEM_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
_ARCHITECTURES = ("LlamaForCausalLM",)


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the length the model was trained on."""

    kind: Literal["linear", "llama3"]
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The numbers and switches of a decoder."""

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    tied_embeddings: bool
    attention_bias: bool
    mlp_bias: bool
    eos_token_ids: tuple[int, ...]
    quantization: QuantSpec | None = None
    """How the checkpoint's products are quantised."""

    @property
    def q_size(self) -> int:
        """Width of all query heads."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of all key (or value) heads."""
        return self.num_kv_heads * self.head_dim

    @property
    def windows(self) -> tuple[int, ...]:
        """The lengths of attention windows that its layers have; 0: no window."""
        return (0,)

    def kv_bytes_per_token(self, dtype: Dtype) -> int:
        """Keys and values of one token in all layers: 2 · 30 · 192 · 2 = 23 040 for 135M, bf16."""
        return 2 * self.num_layers * self.kv_size * ITEM_BYTES[dtype]


def read_spec(folder: Path) -> ModelSpec:
    """Read and check `config.json` and `generation_config.json`."""
    if not folder.is_dir():
        raise CheckpointNotFound(
            f"model folder {folder} does not exist: check the volume and `--model`"
        )
    document = _read_json(folder / "config.json")
    _refuse_unsupported(document)
    generation = folder / "generation_config.json"
    ends = _read_json(generation) if generation.exists() else {}
    return _parse_spec(_Fields(document), _parse_ends(ends) or _parse_ends(document))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointNotFound(
            f"{path} does not exist: a Hugging Face checkpoint folder is needed"
        ) from None
    except OSError as error:
        raise CheckpointBroken(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointBroken(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointBroken(f"{path} must hold a JSON object")
    return document


def _refuse_unsupported(document: dict[str, Any]) -> None:
    names = document.get("architectures")
    if not isinstance(names, list) or not names:
        raise CheckpointBroken("config.json: `architectures` is missing")
    if names[0] not in _ARCHITECTURES:
        raise ArchitectureUnsupported(
            f"architecture {names[0]!r} is not supported; supported are {', '.join(_ARCHITECTURES)}"
        )
    if document.get("hidden_act", "silu") != "silu":
        raise ArchitectureUnsupported(
            f"config.json: `hidden_act` {document['hidden_act']!r} is not supported, only 'silu' is"
        )


class _Fields:
    """Reads typed fields of one JSON object and names the one that is wrong."""

    def __init__(self, document: dict[str, Any], prefix: str = "") -> None:
        self._document = document
        self._prefix = prefix

    def value(self, name: str) -> object:
        """The raw value; None when absent."""
        return self._document.get(name)

    def size(self, name: str, default: int | None = None) -> int:
        """A positive whole number."""
        value = self._document.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong(name, "a whole number ≥ 1", value)
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number."""
        value = self._document.get(name)
        value = default if value is None else value
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            raise self._wrong(name, "a number > 0", value)
        return float(value)

    def flag(self, name: str) -> bool:
        """True or false; absent is false."""
        value = self._document.get(name)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(name, "true or false", value)
        return bool(value)

    def _wrong(self, name: str, wanted: str, value: object) -> CheckpointBroken:
        found = "is missing" if value is None else f"was {value!r}"
        return CheckpointBroken(f"config.json: `{self._prefix}{name}` must be {wanted}, {found}")


def _parse_spec(fields: _Fields, eos_token_ids: tuple[int, ...]) -> ModelSpec:
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    kv_heads = fields.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise CheckpointBroken(
            "config.json: `num_attention_heads` must be a multiple of `num_key_value_heads`, "
            f"was {heads} and {kv_heads}"
        )
    head_dim = fields.size("head_dim", max(1, hidden // heads))
    if head_dim % 2:
        raise CheckpointBroken(f"config.json: `head_dim` must be even, was {head_dim}")
    theta, scaling = _parse_rope(fields)
    return ModelSpec(
        architecture=_ARCHITECTURES[0],
        vocab_size=fields.size("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.size("intermediate_size"),
        num_layers=fields.size("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        max_position=fields.size("max_position_embeddings", 2048),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        rope_theta=theta,
        rope_scaling=scaling,
        tied_embeddings=fields.flag("tie_word_embeddings"),
        attention_bias=fields.flag("attention_bias"),
        mlp_bias=fields.flag("mlp_bias"),
        eos_token_ids=eos_token_ids,
        quantization=_parse_quantization(fields.value("quantization_config")),
    )


def _parse_quantization(document: object) -> QuantSpec | None:
    if document is None:
        return None
    if not isinstance(document, dict):
        raise CheckpointBroken(
            f"config.json: `quantization_config` must be an object, was {document!r}"
        )
    return parse_quantization(document)


def _parse_rope(fields: _Fields) -> tuple[float, RopeScaling | None]:
    """`rope_theta` and `rope_scaling` of old configs, or `rope_parameters` of new ones."""
    name = "rope_parameters" if fields.value("rope_parameters") else "rope_scaling"
    document = fields.value(name) or {}
    if not isinstance(document, dict):
        raise CheckpointBroken(f"config.json: `{name}` must be an object, was {document!r}")
    rope = _Fields(document, f"{name}.")
    theta = rope.number("rope_theta", fields.number("rope_theta", 10000.0))
    kind = document.get("rope_type", document.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling("linear", rope.number("factor"))
    if kind == "llama3":
        return theta, RopeScaling(
            "llama3",
            rope.number("factor"),
            rope.number("low_freq_factor"),
            rope.number("high_freq_factor"),
            rope.size("original_max_position_embeddings"),
        )
    raise ArchitectureUnsupported(
        f"config.json: `{name}.rope_type` {kind!r} is not supported; "
        "supported are 'default', 'linear', 'llama3'"
    )


def _parse_ends(document: dict[str, Any]) -> tuple[int, ...]:
    value = document.get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    return tuple(id for id in ids if isinstance(id, int) and not isinstance(id, bool))
