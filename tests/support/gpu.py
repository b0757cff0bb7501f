"""Where tests of kernels run, in which dtypes, and how exact kernels have to be.

In Triton's interpreter on the CPU, or on a GPU with `TRITON_INTERPRET=0`: the tests are the same,
but the interpreter has float32 too, which no GPU's kernels are compiled for.
"""

from __future__ import annotations

import os

import torch

from stoker_runtime.kernels.cache import LIMITS
from stoker_runtime.kernels.gpu import fp8

_IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if _IS_INTERPRETED else "cuda")
EXACT = torch.float32 if _IS_INTERPRETED else torch.float16
"""The most exact dtype that kernels have here."""
DTYPES = (*((EXACT,) if _IS_INTERPRETED else ()), torch.bfloat16, torch.float16)
CODES = tuple(one for one in LIMITS if one == torch.int8 or fp8.is_supported(DEVICE))
"""Types of 8 bits that kernels have here."""
_TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""A few units in the last place: sums run in another order, roundings fall between other steps."""


def assert_close(made: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal in dtype and shape, finite, and in every entry as close as the dtype allows."""
    assert made.isfinite().all()
    tolerance = _TOLERANCES[expected.dtype]
    torch.testing.assert_close(made, expected, atol=tolerance, rtol=tolerance)


def assert_near(made: torch.Tensor, expected: torch.Tensor, bound: float = 0.0) -> None:
    """Equal in shape, finite, and as a whole no farther than `bound` or what the dtype allows."""
    assert made.shape == expected.shape
    assert made.isfinite().all()
    distance = (made.float() - expected.float()).norm() / expected.float().norm()
    assert float(distance) <= max(bound, _TOLERANCES[made.dtype])
