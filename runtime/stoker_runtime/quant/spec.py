"""What `quantization_config` says about how a checkpoint's weights are stored, without torch.

Knows the published configs of GPTQ, AWQ and compressed-tensors and which of their options there is
code for; does not know tensors. Read right after the network's config, so that a format that can't
be run is refused by name before a weight is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stoker_runtime.fields import Fields

Storage = Literal["gptq", "awq", "packed", "int8", "fp8"]
Target = Literal["int8", "int4", "fp8"]
"""What weights are rounded to while loading."""
_NAME = "quantization_config"
_LAYOUTS = ("pack-quantized", "int-quantized", "float-quantized")
_GROUP_SIZES = (32, 64, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantSpec:
    """How the quantised products of one checkpoint are stored."""

    method: str
    """`quant_method` as the config spells it, for messages."""
    storage: Storage
    """Layout of the tensors: packed, int8 and fp8 are those of compressed-tensors."""
    bits: int
    """Of one code: 4 or 8."""
    group_size: int = 0
    """Columns that share a scale; 0: all of a row."""
    symmetric: bool = False
    """No zero points are stored, though GPTQ writes them anyhow."""
    zero_offset: int = 0
    """Added to the stored zero points: 1 in GPTQ's first format."""
    quantize_input: bool = False
    """Rows of the input are rounded to 8 bits too (W8A8)."""


def parse_quantization(document: object) -> QuantSpec:
    """Check the object that is a config's `quantization_config`, and read it.

    Raises `ArchitectureUnsupported` for what is not built, `CheckpointBroken` for what makes no
    sense; both name the field and its value.
    """
    fields = Fields({_NAME: document}).child(_NAME)
    match fields.one_of("quant_method", ("gptq", "awq", "compressed-tensors")):
        case "gptq":
            return _parse_gptq(fields)
        case "awq":
            return _parse_awq(fields)
        case _:
            return _parse_compressed(fields)


def _parse_gptq(fields: Fields) -> QuantSpec:
    fields.check_absent("lm_head", "dynamic")
    version = fields.one_of("checkpoint_format", ("gptq", "gptq_v2"), "gptq")
    fields.flag("desc_act")  # the stored order says it all
    return QuantSpec(
        method="gptq",
        storage="gptq",
        bits=fields.one_of("bits", (4, 8)),
        group_size=_group_size(fields),
        symmetric=fields.flag("sym", True),
        zero_offset=1 if version == "gptq" else 0,
    )


def _parse_awq(fields: Fields) -> QuantSpec:
    fields.one_of("version", ("gemm", "GEMM"), "gemm")
    fields.one_of("zero_point", (True,), True)
    return QuantSpec(
        method="awq",
        storage="awq",
        bits=fields.one_of("bits", (4,)),
        group_size=_group_size(fields),
    )


def _group_size(fields: Fields) -> int:
    return max(0, fields.one_of("group_size", (-1, *_GROUP_SIZES)))


def _parse_compressed(fields: Fields) -> QuantSpec:
    fields.one_of("quantization_status", ("compressed",), "compressed")
    fields.check_absent("kv_cache_scheme", "transform_config")
    if fields.value("sparsity_config"):
        fields.child("sparsity_config").one_of("format", ("dense",), "dense")
    scheme = _only_group(fields)
    scheme.check_absent("output_activations")
    layout = (scheme if scheme.value("format") else fields).one_of("format", _LAYOUTS)
    if scheme.value("weights") is None:
        raise scheme.wrong("weights", "an object", None)
    weights = scheme.child("weights")
    kind = "float" if layout == "float-quantized" else "int"
    weights.one_of("type", (kind,), kind if kind == "int" else None)
    weights.one_of("dynamic", (False,), False)
    weights.one_of("actorder", ("group", "weight", "static", "dynamic", True, False), False)
    if layout == "pack-quantized":
        scheme.check_absent("input_activations")
        return _parse_packed(weights)
    return _parse_rows(scheme, weights, kind)


def _only_group(fields: Fields) -> Fields:
    groups = fields.value("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise fields.wrong("config_groups", "an object that names a scheme", groups)
    if len(groups) > 1:
        raise fields.unsupported("config_groups", groups, ("one scheme for all layers",))
    return fields.child("config_groups").child(next(iter(groups)))


def _parse_packed(weights: Fields) -> QuantSpec:
    strategy = weights.one_of("strategy", ("group", "channel"))
    size = weights.one_of("group_size", _GROUP_SIZES) if strategy == "group" else 0
    return QuantSpec(
        method="compressed-tensors",
        storage="packed",
        bits=weights.one_of("num_bits", (4, 8)),
        group_size=size,
        symmetric=weights.flag("symmetric", True),
    )


def _parse_rows(scheme: Fields, weights: Fields, kind: str) -> QuantSpec:
    """8 bits a weight and a scale per row; float or int, and inputs alike or not at all."""
    weights.one_of("strategy", ("channel",))
    weights.one_of("symmetric", (True,), True)
    if quantize_input := bool(scheme.value("input_activations")):
        inputs = scheme.child("input_activations")
        inputs.one_of("num_bits", (8,))
        inputs.one_of("type", (kind,), kind if kind == "int" else None)
        inputs.one_of("dynamic", (True,))
        inputs.one_of("strategy", ("token",))
        inputs.one_of("symmetric", (True,), True)
    return QuantSpec(
        method="compressed-tensors",
        storage="int8" if kind == "int" else "fp8",
        bits=weights.one_of("num_bits", (8,)),
        symmetric=True,
        quantize_input=quantize_input,
    )
