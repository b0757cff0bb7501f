"""Products of 8-bit floats on tensor cores that have them, a scale per row of both.

Knows codes and scales of one weight; does not know checkpoints. Rows are rounded by our kernel and
multiplied by torch's library, which puts the scales into the same pass.
"""

from __future__ import annotations

import torch

from stoker_runtime.kernels.gpu.rows import round_rows


def is_supported(device: torch.device) -> bool:
    """Whether its tensor cores multiply 8-bit floats; torch does it on CPUs too."""
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 9)


def multiply(
    x: torch.Tensor, codes: torch.Tensor, scales: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:  # [num_tokens, out]
    """x [num_tokens, in], rounded row by row, · (codes [out, in] · scales [out])ᵀ + b.

    codes: float8_e4m3fn, both sizes multiples of 16. torch's library writes bfloat16 alone.
    """
    rounded, row_scales = round_rows(x, torch.float8_e4m3fn)
    out = torch._scaled_mm(
        rounded, codes.t(), scale_a=row_scales, scale_b=scales[None], out_dtype=torch.bfloat16
    )
    return out.to(x.dtype) if bias is None else out.to(x.dtype) + bias
