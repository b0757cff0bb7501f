"""What `quantization_config` says about how a checkpoint's weights are stored, without torch.

Knows the published configs of GPTQ, AWQ and compressed-tensors and which of their options there is
code for; does not know tensors. Read right after the network's config, so that a format that can't
be run is refused by name before a weight is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

from stoker_runtime.errors import ArchitectureUnsupported, CheckpointBroken

Storage = Literal["gptq", "awq", "packed", "int8", "fp8"]
Target = Literal["int8", "int4", "fp8"]
"""What weights are rounded to while loading."""
_PREFIX = "quantization_config"
_METHODS = ("gptq", "awq", "compressed-tensors")
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


def parse_quantization(document: Mapping[str, object]) -> QuantSpec:
    """Check a `quantization_config` and read it.

    Raises `ArchitectureUnsupported` for what is not built, `CheckpointBroken` for what makes no
    sense; both name the field and its value.
    """
    fields = _Fields(document)
    match document.get("quant_method"):
        case "gptq":
            return _parse_gptq(fields)
        case "awq":
            return _parse_awq(fields)
        case "compressed-tensors":
            return _parse_compressed(fields)
        case _:
            fields.refuse("quant_method", f"supported are {', '.join(_METHODS)}")


class _Fields:
    """Reads one JSON object and names the field that is wrong."""

    def __init__(self, document: Mapping[str, object], prefix: str = _PREFIX) -> None:
        self._document = document
        self._prefix = prefix

    def value(self, name: str) -> object:
        """The raw value; None when absent."""
        return self._document.get(name)

    def one_of(self, name: str, choices: Sequence[object], default: object = None) -> object:
        """A value that there is code for; True is no number here."""
        value = self._document.get(name)
        value = default if value is None else value
        if not any(value == choice and type(value) is type(choice) for choice in choices):
            shown = ", ".join(repr(choice) for choice in choices)
            self.refuse(name, f"supported are {shown}")
        return value

    def number(self, name: str, choices: Sequence[int], default: int | None = None) -> int:
        """One of a few whole numbers."""
        value = self.one_of(name, choices, default)
        assert isinstance(value, int), "only whole numbers are offered"
        return value

    def flag(self, name: str, default: bool | None = None) -> bool:
        """True or false."""
        return bool(self.one_of(name, (True, False), default))

    def absent(self, *names: str) -> None:
        """Options without code must be off."""
        for name in names:
            if self._document.get(name):
                self.refuse(name, "leave it out")

    def child(self, name: str) -> _Fields:
        """An object in this one."""
        value = self._document.get(name)
        if not isinstance(value, dict):
            raise CheckpointBroken(
                f"config.json: `{self._prefix}.{name}` must be an object, was {value!r}"
            )
        return _Fields(value, f"{self._prefix}.{name}")

    def refuse(self, name: str, instead: str) -> NoReturn:
        """This value has no code."""
        raise ArchitectureUnsupported(
            f"config.json: `{self._prefix}.{name}` {self._document.get(name)!r} is not supported; "
            f"{instead}"
        )


def _parse_gptq(fields: _Fields) -> QuantSpec:
    fields.absent("lm_head", "dynamic")
    version = fields.one_of("checkpoint_format", ("gptq", "gptq_v2"), "gptq")
    fields.flag("desc_act", False)  # the stored order says it all
    return QuantSpec(
        method="gptq",
        storage="gptq",
        bits=fields.number("bits", (4, 8)),
        group_size=_group_size(fields),
        symmetric=fields.flag("sym", True),
        zero_offset=1 if version == "gptq" else 0,
    )


def _parse_awq(fields: _Fields) -> QuantSpec:
    fields.one_of("version", ("gemm", "GEMM"), "gemm")
    fields.one_of("zero_point", (True,), True)
    return QuantSpec(
        method="awq",
        storage="awq",
        bits=fields.number("bits", (4,)),
        group_size=_group_size(fields),
    )


def _group_size(fields: _Fields) -> int:
    return max(0, fields.number("group_size", (-1, *_GROUP_SIZES)))


def _parse_compressed(fields: _Fields) -> QuantSpec:
    fields.one_of("quantization_status", ("compressed",), "compressed")
    fields.absent("kv_cache_scheme", "transform_config")
    if fields.value("sparsity_config"):
        fields.child("sparsity_config").one_of("format", ("dense",), "dense")
    scheme = _only_group(fields)
    scheme.absent("output_activations")
    layout = scheme.value("format") or fields.value("format")
    weights = scheme.child("weights")
    kind = "float" if layout == "float-quantized" else "int"
    weights.one_of("type", (kind,), kind if kind == "int" else None)
    weights.one_of("dynamic", (False,), False)
    weights.one_of("actorder", ("group", "weight", "static", "dynamic", True, False), False)
    if layout == "pack-quantized":
        scheme.absent("input_activations")
        return _parse_packed(weights)
    if layout in ("int-quantized", "float-quantized"):
        return _parse_rows(scheme, weights, kind)
    fields.refuse("format", "supported are 'pack-quantized', 'int-quantized' and 'float-quantized'")


def _only_group(fields: _Fields) -> _Fields:
    groups = fields.value("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise CheckpointBroken(f"config.json: `{_PREFIX}.config_groups` must name a scheme")
    if len(groups) > 1:
        fields.refuse("config_groups", "one scheme for all layers is")
    return fields.child("config_groups").child(next(iter(groups)))


def _parse_packed(weights: _Fields) -> QuantSpec:
    strategy = weights.one_of("strategy", ("group", "channel"))
    size = weights.number("group_size", _GROUP_SIZES) if strategy == "group" else 0
    return QuantSpec(
        method="compressed-tensors",
        storage="packed",
        bits=weights.number("num_bits", (4, 8)),
        group_size=size,
        symmetric=weights.flag("symmetric", True),
    )


def _parse_rows(scheme: _Fields, weights: _Fields, kind: str) -> QuantSpec:
    """8 bits a weight and a scale per row; float or int, and inputs alike or not at all."""
    weights.one_of("strategy", ("channel",))
    weights.one_of("symmetric", (True,), True)
    if quantize_input := bool(scheme.value("input_activations")):
        inputs = scheme.child("input_activations")
        inputs.number("num_bits", (8,))
        inputs.one_of("type", (kind,), kind if kind == "int" else None)
        inputs.one_of("dynamic", (True,))
        inputs.one_of("strategy", ("token",))
        inputs.one_of("symmetric", (True,), True)
    return QuantSpec(
        method="compressed-tensors",
        storage="int8" if kind == "int" else "fp8",
        bits=weights.number("num_bits", (8,)),
        symmetric=True,
        quantize_input=quantize_input,
    )
