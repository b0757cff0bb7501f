"""Runs kernels in Triton's interpreter: program after program on a CPU, with numpy.

Knows Triton; does not know caches or drivers. For tests and for trying the whole engine without a
GPU; as strict as a GPU would be about types, multiples and what is compiled at all.
"""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Sequence
from typing import Any

import torch

from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, Grid, Value
from stoker_runtime.kernels.gpu.registry import ARCHS, FLOATS, Argument, Specialisation


def interpret(specialisation: Specialisation, grid: Grid, values: Sequence[Value]) -> None:
    """Compute the whole grid; raises what a launch on a GPU would not have taken."""
    kernel = specialisation.kernel
    if not is_compiled(specialisation):
        raise ConfigInvalid(f"{specialisation.key} is not in the catalogue")
    for argument, type_, value in zip(
        kernel.arguments, specialisation.signature.values(), values, strict=True
    ):
        _check(specialisation, argument, type_, value)
    function = _find_function(kernel.module, kernel.function)
    function[grid](*values, **dict(specialisation.constants))


def is_compiled(specialisation: Specialisation) -> bool:
    """Whether some generation of GPUs has it; float32 is compiled for none but counts as others."""
    kernel = specialisation.kernel
    types = tuple((name, _compiled_type(type_)) for name, type_ in specialisation.types)
    twin = kernel.specialise(
        dict(types),
        dict(specialisation.constants),
        specialisation.num_warps,
        specialisation.num_stages,
    )
    return twin in _catalogue()


def _compiled_type(type_: str) -> str:
    return FLOATS[0] if type_ == "fp32" else type_


@functools.cache
def _catalogue() -> frozenset[Specialisation]:
    from stoker_runtime.kernels.gpu.catalogue import specialisations

    return frozenset(one for arch in ARCHS.values() for one in specialisations(arch))


@functools.cache
def _find_function(module: str, function: str) -> Any:
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigInvalid(
            "kernels run on NVIDIA GPUs; to interpret them on a CPU set TRITON_INTERPRET=1"
        )
    name = f"stoker_runtime.kernels.gpu.device.{module}"
    return getattr(importlib.import_module(name), function)


def _check(specialisation: Specialisation, argument: Argument, type_: str, value: Value) -> None:
    """A value of another type, or no multiple of what was promised, would be read wrongly."""
    if isinstance(value, torch.Tensor):
        fits = type_ == "*" + ELEMENT_TYPES[value.dtype]
        number: float = value.data_ptr()
    else:
        fits = type_ == "fp32" if isinstance(value, float) else type_ in ("i32", "i64")
        number = value
    if not fits or (argument.divisor > 1 and number % argument.divisor):
        shown = value.dtype if isinstance(value, torch.Tensor) else value
        raise ConfigInvalid(
            f"{specialisation.key}: `{argument.name}` must be {type_} and a multiple of "
            f"{argument.divisor}, was {shown} at {number}"
        )
