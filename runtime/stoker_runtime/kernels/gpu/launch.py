"""Runs a specialisation on the tensors it is given: on their GPU, or interpreted on a CPU.

Knows which of the two; does not know drivers (`driver`), Triton (`interpreter`) or what kernels
compute. Nothing is compiled here: what is not in the cache is an error that names it.
"""

from __future__ import annotations

import functools

import torch

from stoker_runtime.kernels.gpu.registry import Specialisation

Value = torch.Tensor | int | float
"""What is passed for one argument."""
Grid = tuple[int, int, int]
"""Programs along x, y and z; none where one of them is 0."""
ELEMENT_TYPES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.int8: "i8",
    torch.uint8: "u8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
}
"""Triton's names of dtypes."""
_INTERPRETED_PROCESSORS = 8
"""What a CPU says it has: enough that work is split."""


def launch(specialisation: Specialisation, grid: Grid, *values: Value) -> None:
    """Start the kernel with the values of its arguments, in the order of its signature.

    The first value is a tensor, and says on which device.
    """
    first = values[0]
    assert isinstance(first, torch.Tensor), "the first argument of a kernel is a tensor"
    if 0 in grid:
        return
    if first.device.type == "cuda":
        from stoker_runtime.kernels.gpu.driver import find_functions

        find_functions(first.device.index).launch(specialisation, grid, values)
    else:
        from stoker_runtime.kernels.gpu.interpreter import interpret

        interpret(specialisation, grid, values)


@functools.cache
def count_processors(device: torch.device) -> int:
    """Multiprocessors of a GPU, which split work is cut for."""
    if device.type != "cuda":
        return _INTERPRETED_PROCESSORS
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
