"""What a checkpoint's `config.json` says about the network, checked and without torch.

Knows how a config and its family (`families`) make the numbers and switches of a decoder; does not
know tensors or files of weights. Read by the engine process first of all, so that a model that
can't be run is refused by name before a byte of it is read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken, CheckpointNotFound
from stoker_runtime.fields import Fields
from stoker_runtime.model.experts import ExpertsSpec, is_sparse, parse_experts
from stoker_runtime.model.families import FAMILIES, Family, has_rope
from stoker_runtime.model.rope import GLOBAL, LOCAL, RopeSpec, parse_local_ropes, parse_one_rope
from stoker_runtime.parallel.share import WHOLE, Share
from stoker_runtime.quant.spec import QuantSpec, parse_quantization

Dtype = Literal["float32", "bfloat16", "float16"]
CacheDtype = Literal[Dtype, "int8", "fp8"]
ITEM_BYTES: dict[Dtype, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
_SCALE_BYTES = 4
_MOST_LAYERS = 2048


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """What one layer differs in from the others."""

    window: int = 0
    """Tokens that a token sees, itself included; 0: all."""
    rope: int | None = 0
    """Index into the model's ropes; None: queries and keys are not turned."""
    is_sparse: bool = False
    """Its MLP is a mixture of experts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """The numbers and switches of a decoder."""

    architecture: str
    family: Family
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_position: int
    rms_norm_eps: float
    tied_embeddings: bool
    layers: tuple[LayerSpec, ...]
    ropes: tuple[RopeSpec, ...]
    eos_token_ids: tuple[int, ...]
    attention_bias: bool = False
    """q, k and v have biases."""
    output_bias: bool = False
    """So has attention's output."""
    mlp_bias: bool = False
    score_scale: float
    """Products of queries and keys are multiplied by it."""
    score_softcap: float | None = None
    logit_softcap: float | None = None
    experts: ExpertsSpec | None = None
    """Of the sparse layers."""
    quantization: QuantSpec | None = None
    """How the checkpoint's products are quantised."""
    share: Share = WHOLE
    """Which part of the model this is: heads and widths are those of the part (`narrow`)."""

    @property
    def tokens(self) -> range:
        """Whose rows of embedding and head are its own."""
        return self.share.cut(self.vocab_size)

    @property
    def num_layers(self) -> int:
        """Layers with attention and an MLP."""
        return len(self.layers)

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
        """The different windows of its layers; 0: no window."""
        return tuple(sorted({layer.window for layer in self.layers}))

    def stretch_to(self, max_model_len: int) -> ModelSpec:
        """With LongRoPE's long factors, if sequences are wanted that the short ones are not for.

        One choice for all sequences: keys that are in the cache can't be turned again.
        """
        if max_model_len <= self.max_position or self.ropes[0].kind != "longrope":
            return self
        ropes = tuple(replace(rope, factors=rope.long_factors) for rope in self.ropes)
        return replace(self, ropes=ropes, max_position=ropes[0].long_max_position)

    def kv_bytes_per_token(self, dtype: CacheDtype) -> int:
        """Keys and values of one token in all layers: 2 · 30 · 192 · 2 = 23 040 for 135M, bf16, and
        2 · 30 · 3 · (64 + 4) = 12 240 in codes with a scale per head."""
        if dtype == "int8" or dtype == "fp8":
            return 2 * self.num_layers * self.num_kv_heads * (self.head_dim + _SCALE_BYTES)
        return 2 * self.num_layers * self.kv_size * ITEM_BYTES[dtype]


def read_spec(folder: Path) -> ModelSpec:
    """Read and check `config.json` and `generation_config.json`.

    Raises `CheckpointNotFound`, `CheckpointBroken` or `ArchitectureUnsupported`, which name the
    file, the field and its value.
    """
    if not folder.is_dir():
        raise CheckpointNotFound(
            f"model folder {folder} does not exist: check the volume and `--model`"
        )
    document = _read_json(folder / "config.json")
    architecture = _pick_architecture(document)
    generation = folder / "generation_config.json"
    ends = _read_json(generation) if generation.exists() else {}
    return _parse_spec(document, architecture, _parse_ends(ends) or _parse_ends(document))


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointNotFound(
            f"{path} does not exist: a Hugging Face checkpoint folder is needed"
        ) from None
    except OSError as error:
        raise CheckpointBroken(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointBroken(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise CheckpointBroken(f"{path} must hold a JSON object")
    return document


def _pick_architecture(document: dict[str, Any]) -> str:
    names = document.get("architectures")
    if not isinstance(names, list) or not names:
        raise CheckpointBroken("config.json: `architectures` is missing")
    if not isinstance(names[0], str) or names[0] not in FAMILIES:
        raise ArchitectureUnsupported(
            f"architecture {names[0]!r} is not supported; supported are {', '.join(FAMILIES)}"
        )
    return names[0]


def _parse_spec(
    document: dict[str, Any], architecture: str, eos_token_ids: tuple[int, ...]
) -> ModelSpec:
    family = FAMILIES[architecture]
    defaults = {family.activation_field: family.activation, **family.defaults}
    fields = Fields(document, defaults=defaults)
    fields.one_of(family.activation_field, (family.activation,))
    fields.one_of("use_bidirectional_attention", (False,), False)
    fields.one_of("is_encoder_decoder", (False,), False)
    heads = fields.size("num_attention_heads")
    head_dim = _parse_head_dim(fields, heads)
    parse = parse_local_ropes if family.has_local_rope else parse_one_rope
    ropes = parse(fields, head_dim)
    quantization = fields.value("quantization_config")
    return ModelSpec(
        architecture=architecture,
        family=family,
        vocab_size=fields.size("vocab_size"),
        hidden_size=fields.size("hidden_size"),
        intermediate_size=fields.size("intermediate_size"),
        num_heads=heads,
        num_kv_heads=_parse_kv_heads(fields, heads),
        head_dim=head_dim,
        max_position=_parse_max_position(fields, ropes),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6),
        tied_embeddings=fields.flag("tie_word_embeddings"),
        layers=_parse_layers(fields, family),
        ropes=ropes,
        eos_token_ids=eos_token_ids,
        attention_bias=family.biases == "always" or fields.flag(family.biases),
        output_bias=family.biases == "attention_bias" and fields.flag("attention_bias"),
        mlp_bias=family.has_mlp_bias_field and fields.flag("mlp_bias"),
        score_scale=fields.number("query_pre_attn_scalar", head_dim) ** -0.5
        if family.is_gemma
        else head_dim**-0.5,
        score_softcap=fields.maybe_number("attn_logit_softcapping") if family.is_gemma else None,
        logit_softcap=fields.maybe_number("final_logit_softcapping") if family.is_gemma else None,
        experts=parse_experts(fields, family.experts) if family.experts else None,
        quantization=None if quantization is None else parse_quantization(quantization),
    )


def _parse_head_dim(fields: Fields, heads: int) -> int:
    head_dim = fields.size("head_dim", max(1, fields.size("hidden_size") // heads))
    if head_dim % 2:
        raise CheckpointBroken(f"config.json: `head_dim` must be even, was {head_dim}")
    return head_dim


def _parse_kv_heads(fields: Fields, heads: int) -> int:
    kv_heads = fields.size("num_key_value_heads", heads)
    if heads % kv_heads:
        raise CheckpointBroken(
            "config.json: `num_attention_heads` must be a multiple of `num_key_value_heads`, "
            f"was {heads} and {kv_heads}"
        )
    return kv_heads


def _parse_max_position(fields: Fields, ropes: tuple[RopeSpec, ...]) -> int:
    """What is offered: with LongRoPE no more than the length that its short factors are for."""
    length = fields.size("max_position_embeddings", 2048)
    trained = [rope.original_max_position for rope in ropes if rope.kind == "longrope"]
    return min([length, *trained])


def _parse_layers(fields: Fields, family: Family) -> tuple[LayerSpec, ...]:
    slides = _parse_slides(fields, family)
    window = fields.size("sliding_window") if any(slides) else 0
    if window >= fields.size("max_position_embeddings", 2048):
        window = 0  # nobody is older than that
    return tuple(
        LayerSpec(
            window=window if has_window else 0,
            rope=_pick_rope(fields, family, index, has_window=has_window),
            is_sparse=family.experts is not None and is_sparse(fields, index),
        )
        for index, has_window in enumerate(slides)
    )


def _parse_slides(fields: Fields, family: Family) -> list[bool]:
    """Which layers have a window, by `layer_types` or the family's rule."""
    num_layers = fields.size("num_hidden_layers", most=_MOST_LAYERS)
    kinds = fields.value("layer_types")
    if kinds is not None and (not isinstance(kinds, list) or len(kinds) != num_layers):
        raise fields.wrong("layer_types", f"a list of {num_layers} names", kinds)
    for kind in kinds or []:
        if kind not in (GLOBAL, LOCAL):
            raise fields.unsupported("layer_types", kind, (GLOBAL, LOCAL))
    if family.slides is None or fields.value("sliding_window") is None:
        return [False] * num_layers
    if family.window_is_switched and not fields.flag("use_sliding_window"):
        return [False] * num_layers
    if kinds is not None:
        return [kind == LOCAL for kind in kinds]
    return [family.slides(fields, index) for index in range(num_layers)]


def _pick_rope(fields: Fields, family: Family, index: int, *, has_window: bool) -> int | None:
    if family.skips_rope and not has_rope(fields, index):
        return None
    return 1 if family.has_local_rope and has_window else 0


def _parse_ends(document: dict[str, Any]) -> tuple[int, ...]:
    value = document.get("eos_token_id")
    ids = value if isinstance(value, list) else [value]
    return tuple(id for id in ids if type(id) is int and 0 <= id < 2**31)
