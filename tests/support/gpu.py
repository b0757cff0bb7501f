"""Where tests of kernels run, and how exact kernels have to be.

In Triton's interpreter on the CPU, or on a GPU with `TRITON_INTERPRET=0`: the tests are the same.
"""

from __future__ import annotations

import os

import torch

DEVICE = torch.device("cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda")
_TOLERANCES = {torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
"""A few units in the last place: sums run in another order, roundings fall between other steps."""


def assert_close(made: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal in dtype and shape, finite, and in every entry as close as the dtype allows."""
    assert made.isfinite().all()
    tolerance = _TOLERANCES[expected.dtype]
    torch.testing.assert_close(made, expected, atol=tolerance, rtol=tolerance)
