"""What a kernel says of itself is what is compiled, and what a launch finds."""

from __future__ import annotations

import pytest

from stoker_runtime.kernels.gpu.registry import Argument, Kernel

KERNEL = Kernel("norm", "norm_kernel", "x_ptr *T, ids_ptr *i64:8, rows i32:16, eps fp32")


def test_a_signature_is_read_with_its_multiples() -> None:
    assert KERNEL.arguments == (
        Argument("x_ptr", "*T", 16),
        Argument("ids_ptr", "*i64", 8),
        Argument("rows", "i32", 1 * 16),
        Argument("eps", "fp32", 1),
    )


def test_placeholders_become_types() -> None:
    one = KERNEL.specialise({"T": "bf16"}, {"BLOCK": 64}, num_warps=4)
    assert one.signature == {"x_ptr": "*bf16", "ids_ptr": "*i64", "rows": "i32", "eps": "fp32"}
    assert one.key == "norm.norm_kernel(T=bf16,BLOCK=64)w4s1"


def test_equal_values_give_the_same_object() -> None:
    one = KERNEL.specialise({"T": "bf16"}, {"BLOCK": 64}, num_warps=4)
    assert one is KERNEL.specialise({"T": "bf16"}, {"BLOCK": 64}, num_warps=4)
    assert one is not KERNEL.specialise({"T": "fp16"}, {"BLOCK": 64}, num_warps=4)


@pytest.mark.parametrize("wrong", ["x_ptr", "x_ptr *T i32"])
def test_an_argument_is_a_name_and_a_type(wrong: str) -> None:
    with pytest.raises(ValueError, match="unpack"):
        _ = Kernel("norm", "norm_kernel", wrong).arguments
