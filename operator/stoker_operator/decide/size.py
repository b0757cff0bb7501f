"""How large a model is by its name, and whether it can fit then: the first-order rule.

Knows names, bits and what the spec gives; no file. Says something before any pod has looked at the
checkpoint: parameters × bits / 8 are the bytes of weights, and a fifth more is little for cache and
activations. `fit.py` has the exact sums from a `config.json`, a runtime does them with its memory.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from stoker_api.engine import Quantization
from stoker_api.quantity import parse_quantity
from stoker_api.v1alpha1 import LLMDeploymentSpec

GIB = 2**30
OVERHEAD = 0.2
"""Cache and activations, as a share of the weights."""

_SIZE = re.compile(
    r"(?<![0-9.])(?<![-_]a)(?:([0-9]+)x)?([0-9]+(?:\.[0-9]+)?)([bm])(?![a-z0-9])", re.IGNORECASE
)
_BITS = {
    Quantization.NONE: 16,
    Quantization.INT8: 8,
    Quantization.FP8: 8,
    Quantization.INT4: 4,
}
_NAMED_BITS = (
    (4, re.compile(r"awq|gptq|int4|w4a16|4bit", re.IGNORECASE)),
    (8, re.compile(r"fp8|int8|w8a8|8bit", re.IGNORECASE)),
)


@dataclass(frozen=True, slots=True)
class Guess:
    """What the name says; nothing, when it says nothing."""

    too_large: bool
    """Whether the weights alone exceed the memory that the spec gives."""
    message: str
    """The sum in words."""


def parameters_of(model: str) -> float | None:
    """Billions of parameters: `Llama-3-8B` 8, `Mixtral-8x7B` 56, `Qwen3-30B-A3B` 30.

    What a token uses of them (`A3B`) says nothing of their number: of `MoE-A2.7B` none is known.
    """
    sizes = [
        int(times or 1) * float(count) * (0.001 if unit in "mM" else 1)
        for times, count, unit in _SIZE.findall(model)
    ]
    return max(sizes, default=None)


def guess_fit(spec: LLMDeploymentSpec) -> Guess | None:
    """The sum for one replica of a spec. A GPU's memory is not in the spec, a CPU's may be.

    Example: 8 × 10⁹ parameters in 16 bits are 14.90 GiB, with a fifth more 17.88 GiB.
    """
    billions = parameters_of(spec.model.source)
    if billions is None:
        return None
    bits = _bits_of(spec)
    weights, needed = _bytes(billions, bits), _bytes(billions, bits) * (1 + OVERHEAD)
    sums = (
        f"By its name {billions:g}B parameters × {bits} bits / 8 = {weights / GIB:.2f} GiB of "
        f"weights, {needed / GIB:.2f} GiB with a fifth for cache and activations"
    )
    resources = spec.resources
    if resources.gpus:
        each = f" ({needed / resources.gpus / GIB:.2f} GiB each)" if resources.gpus > 1 else ""
        return Guess(False, f"{sums}, on {resources.gpus} GPU{each}.")
    if resources.memory is None:
        return Guess(False, f"{sums}; resources.memory sets no limit.")
    given = parse_quantity(resources.memory)
    sums += f"; resources.memory is {resources.memory}"
    if weights < given:
        return Guess(False, f"{sums}.")
    return Guess(True, f"{sums}. Would fit: {' or '.join(_remedies(billions, bits, given))}.")


def _remedies(billions: float, bits: int, given: float) -> list[str]:
    needed = math.ceil(_bytes(billions, bits) * (1 + OVERHEAD) / GIB)
    fewer = [(name, less) for name, less in (("Int8", 8), ("Int4", 4)) if less < bits]
    smaller = [n for n, less in fewer if _bytes(billions, less) * (1 + OVERHEAD) <= given]
    return [f"resources.memory: {needed}Gi", *(f"model.quantization: {n}" for n in smaller[:1])]


def _bits_of(spec: LLMDeploymentSpec) -> int:
    wanted = spec.model.quantization
    if wanted != Quantization.AUTO:
        return _BITS[wanted]
    return next((b for b, names in _NAMED_BITS if names.search(spec.model.source)), 16)


def _bytes(billions: float, bits: int) -> float:
    return billions * 1e9 * bits / 8
