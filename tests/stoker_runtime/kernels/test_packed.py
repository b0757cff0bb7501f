"""Products of the native library equal those of torch, for every way of storing weights."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from stoker_runtime.kernels.linear import DenseLinear, GroupedLinear, Int8Linear, Linear
from stoker_runtime.kernels.native import find_library
from stoker_runtime.kernels.packed import PackedLinear, pack_linear

SHAPES = [(16, 8, 1), (40, 64, 2), (100, 576, 3), (33, 320, 5), (48, 1536, 7), (24, 512, 300)]
KINDS = ("float32", "bfloat16", "float16", "int8", "w8a8", "int8-groups", "int4", "int3", "ordered")

pytestmark = pytest.mark.skipif(find_library() is None, reason="the library is not built")


def make_grouped(rows: int, cols: int, bits: int, *, ordered: bool = False) -> GroupedLinear:
    group = 8 if cols % 32 else 32
    codes = torch.randint(0, 1 << bits, (rows, cols), dtype=torch.uint8)
    scales = torch.rand(rows, cols // group) + 0.5
    zeros = torch.randint(0, 1 << bits, scales.shape).float()
    order = torch.randperm(cols) if ordered else None
    return GroupedLinear(codes, scales, zeros, group, bits, order, torch.randn(rows))


def make_linear(kind: str, rows: int, cols: int) -> Linear:
    match kind:
        case "float32":
            return DenseLinear(torch.randn(rows, cols), torch.randn(rows))
        case "bfloat16":
            return DenseLinear(torch.randn(rows, cols).bfloat16())
        case "float16":
            sizes = torch.randint(-26, 1, (rows, cols))  # the least ones have no leading 1
            return DenseLinear((torch.randn(rows, cols) * 2.0**sizes).half())
        case "int8" | "w8a8":
            codes = torch.randint(-128, 128, (rows, cols), dtype=torch.int8)
            return Int8Linear(codes, torch.rand(rows) + 0.5, None, kind == "w8a8")
        case _:
            bits = {"int8-groups": 8, "int4": 4, "int3": 3, "ordered": 4}[kind]
            return make_grouped(rows, cols, bits, ordered=kind == "ordered")


def widen(linear: Linear) -> Linear:
    """The same with weights of 16 bits as float32, for torch to sum in float32 too."""
    if isinstance(linear, DenseLinear):
        return DenseLinear(linear.weight.float(), linear.bias)
    return linear


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_packed_products_equal_torchs(kind: str, shape: tuple[int, int, int]) -> None:
    rows, cols, num_tokens = shape
    torch.manual_seed(rows)
    linear, x = make_linear(kind, rows, cols), torch.randn(num_tokens, cols)
    packed = pack_linear(linear)
    assert isinstance(packed, PackedLinear)
    expected = widen(linear)(x)
    torch.testing.assert_close(packed(x), expected, atol=bound(linear, x, expected), rtol=1e-5)


def bound(linear: Linear, x: torch.Tensor, expected: torch.Tensor) -> float:
    """What sums may differ by.

    Codes meet 16 bits of x, which is off by 1/65534 of a block's largest value at most; over n
    columns of random sign such errors add up to √n of that, not to n.
    """
    exact = 1e-5 * float(expected.abs().max())
    if isinstance(linear, DenseLinear) or (
        isinstance(linear, Int8Linear) and linear.quantize_input
    ):
        return exact
    weight = linear(torch.eye(x.shape[1])) - linear(torch.zeros(1, x.shape[1]))  # [in, out]
    return exact + 5 * float(weight.norm(dim=0).max() * x.abs().max()) / 65534


def test_what_is_not_finite_is_seen_in_all_its_outputs() -> None:
    x = torch.randn(9, 64)
    x[2, 5], x[4, 63], x[8, 0] = torch.nan, torch.inf, -torch.inf
    for kind in KINDS:
        made = pack_linear(make_linear(kind, 24, 64))(x)
        finite = made.isfinite().all(dim=1).tolist()
        assert finite == [True, True, False, True, False, True, True, True, False], kind


def test_rows_of_zeros_and_of_tiny_values_keep_their_size() -> None:
    linear = make_linear("int8", 24, 64)
    x = torch.stack((torch.zeros(64), torch.randn(64) * 1e-20, torch.randn(64) * 1e20))
    made, expected = pack_linear(linear)(x), linear(x)
    for row, wanted in zip(made, expected, strict=True):
        torch.testing.assert_close(row, wanted, atol=1e-4 * float(wanted.abs().max()), rtol=0)


def test_no_tokens_are_no_products() -> None:
    assert pack_linear(DenseLinear(torch.randn(16, 8)))(torch.empty(0, 8)).shape == (0, 16)


def test_rows_of_a_larger_tensor_are_taken_as_they_lie() -> None:
    linear, x = DenseLinear(torch.randn(32, 24)), torch.randn(6, 48)[::2, 24:]
    torch.testing.assert_close(pack_linear(linear)(x), linear(x), atol=1e-5, rtol=1e-4)


def test_threads_give_the_same_sums() -> None:
    linear, x = pack_linear(DenseLinear(torch.randn(640, 96))), torch.randn(9, 96)
    alone = linear(x)
    assert isinstance(linear, PackedLinear)
    linear.library.start_threads(3)
    assert all(torch.equal(linear(x), alone) for _ in range(200))


def test_callers_at_the_same_time_do_not_meet() -> None:
    linears = [pack_linear(DenseLinear(torch.randn(320, 64 * (1 + i)))) for i in range(3)]
    xs = [torch.randn(5, 64 * (1 + i)) for i in range(3)]
    expected = [linear(x) for linear, x in zip(linears, xs, strict=True)]
    with ThreadPoolExecutor(3) as pool:
        for made in pool.map(lambda i: (i, linears[i](xs[i])), [i % 3 for i in range(300)]):
            assert torch.equal(made[1], expected[made[0]])


@pytest.mark.parametrize(
    "linear",
    [
        DenseLinear(torch.zeros(4, 4, dtype=torch.float64)),
        DenseLinear(torch.zeros(4, 3, dtype=torch.bfloat16)),
        Int8Linear(torch.zeros(4, 6, dtype=torch.int8), torch.ones(4)),
        GroupedLinear(
            torch.zeros(4, 12, dtype=torch.uint8), torch.ones(4, 3), torch.ones(4, 3), 4, 4
        ),
    ],
    ids=["float64", "odd columns", "columns that fill no unit", "small groups"],
)
def test_what_cannot_be_packed_stays_on_torch(linear: Linear) -> None:
    assert pack_linear(linear) is linear
