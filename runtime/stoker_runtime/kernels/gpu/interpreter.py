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

import numpy
import torch

from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.kernels.gpu.catalogue import specialisations_of
from stoker_runtime.kernels.gpu.launch import ELEMENT_TYPES, Grid, Value
from stoker_runtime.kernels.gpu.registry import ARCHS, FLOATS, Argument, Constant, Specialisation


def interpret(specialisation: Specialisation, grid: Grid, values: Sequence[Value]) -> None:
    """Compute the whole grid; raises what a launch on a GPU would not have taken."""
    kernel = specialisation.kernel
    if not is_compiled(specialisation):
        raise ConfigInvalid(f"{specialisation.key} is not in the catalogue")
    for argument, type_, value in zip(
        kernel.arguments, specialisation.signature.values(), values, strict=True
    ):
        check(specialisation, argument, type_, value)
    function = _find_function(kernel.module, kernel.function)
    with numpy.errstate(all="ignore"):  # infinities and their quotients are meant, as on a GPU
        function[grid](*values, **_plain(specialisation))


def _plain(specialisation: Specialisation) -> dict[str, Constant]:
    """The constants; without `PACKED`, which means inline assembly, kernels use Triton alone."""
    constants = dict(specialisation.constants)
    return {**constants, "PACKED": False} if "PACKED" in constants else constants


def is_compiled(specialisation: Specialisation) -> bool:
    """Whether some generation of GPUs has it; float32 is compiled for none but counts as others."""
    module = specialisation.kernel.module
    if "fp32" in dict(specialisation.types).values():
        return _widen(specialisation) in _widened(module)
    return specialisation in _declared(module)


def _widen(specialisation: Specialisation) -> Specialisation:
    """The same with float32 for shorter floats."""
    types = {name: "fp32" if t in FLOATS else t for name, t in specialisation.types}
    return specialisation.kernel.specialise(
        types,
        dict(specialisation.constants),
        specialisation.num_warps,
        specialisation.num_stages,
    )


@functools.cache
def _widened(module: str) -> frozenset[Specialisation]:
    return frozenset(map(_widen, _declared(module)))


@functools.cache
def _declared(module: str) -> frozenset[Specialisation]:
    return frozenset(one for arch in ARCHS.values() for one in specialisations_of(module, arch))


@functools.cache
def _find_function(module: str, function: str) -> Any:
    if os.environ.get("TRITON_INTERPRET") != "1":
        raise ConfigInvalid(
            "kernels run on NVIDIA GPUs; to interpret them on a CPU set TRITON_INTERPRET=1"
        )
    _teach_rounding()
    name = f"stoker_runtime.kernels.gpu.device.{module}"
    return getattr(importlib.import_module(name), function)


@functools.cache
def _teach_rounding() -> None:
    """Triton 3.9's interpreter multiplies bfloat16's bits as whole numbers in `dot`, and cuts off
    what bfloat16 and float8 have no room for, or rounds 15.9 to 8. A GPU rounds to the nearest."""
    from triton import language
    from triton.runtime import interpreter as theirs

    multiply, cast = theirs.InterpreterBuilder.create_dot, theirs._convert_float
    types = {language.bfloat16: torch.bfloat16, language.float8e4nv: torch.float8_e4m3fn}

    def create_dot(builder: Any, a: Any, b: Any, *rest: Any) -> Any:
        return multiply(builder, widen(a), widen(b), *rest)

    def widen(handle: Any) -> Any:
        if handle.dtype.scalar != language.bfloat16:
            return handle
        bits = handle.data.astype(numpy.uint32) << 16
        return theirs.TensorHandle(bits.view(numpy.float32), language.float32)

    def convert(values: Any, source: Any, target: Any, mode: Any) -> Any:
        if source != language.float32 or target not in types:
            return cast(values, source, target, mode)
        wide = torch.from_numpy(numpy.ascontiguousarray(values)).to(types[target])
        bits = wide.view(torch.uint8).numpy().view(f"uint{target.primitive_bitwidth}")
        return bits.reshape(numpy.shape(values))

    theirs.InterpreterBuilder.create_dot = create_dot
    theirs._convert_float = convert


def check(specialisation: Specialisation, argument: Argument, type_: str, value: Value) -> None:
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
