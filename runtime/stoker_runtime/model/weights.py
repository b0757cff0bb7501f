"""Turns the blob of bytes into the decoder's weights.

Knows torch dtypes and the layout; does not know files (`checkpoint`, `reader`) or arithmetic
(`decoder`). Tensors of the right dtype are views of the blob: nothing is copied on a CPU.
"""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from stoker_runtime.kernels.linear import DenseLinear, Linear
from stoker_runtime.model.layout import Fused
from stoker_runtime.model.reader import Placed

_WEIGHT = ".weight"
TORCH_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True, slots=True)
class Weights:
    """What a checkpoint holds, as the decoder wants it."""

    tensors: Mapping[str, torch.Tensor]
    """Embedding and norms, by their names in the layout."""
    linears: Mapping[str, Linear]
    """Products, by their names without `.weight`; `head` is there for tied embeddings too."""


def build_weights(
    blob: mmap.mmap,
    layout: Sequence[Fused],
    placed: dict[str, Placed],
    dtype: torch.dtype,
    device: torch.device,
) -> Weights:
    """The decoder's weights in `dtype` on `device`."""
    tensors = build_tensors(blob, layout, placed, dtype, device)
    linears: dict[str, Linear] = {
        name.removesuffix(_WEIGHT): DenseLinear(
            tensor, tensors.get(name.removesuffix(_WEIGHT) + ".bias")
        )
        for name, tensor in tensors.items()
        if name.endswith(_WEIGHT)
    }
    linears["head"] = DenseLinear(tensors.get("head", tensors["embed"]))
    return Weights(tensors, linears)


def build_tensors(
    blob: mmap.mmap,
    layout: Sequence[Fused],
    placed: dict[str, Placed],
    dtype: torch.dtype,
    device: torch.device,
) -> dict[str, torch.Tensor]:
    """The decoder's tensors by name, in `dtype` on `device`."""
    data = torch.frombuffer(blob, dtype=torch.uint8).to(device)  # [num_bytes]
    return {
        fused.name: _build(data, fused, [placed[part.name] for part in fused.parts], dtype)
        for fused in layout
    }


def _build(
    data: torch.Tensor, fused: Fused, placed: list[Placed], dtype: torch.dtype
) -> torch.Tensor:
    if len({one.tensor.dtype for one in placed}) == 1:
        return _view(data, placed[0], placed[-1]).view(fused.shape).to(dtype)
    parts = [_view(data, one, one).to(dtype) for one in placed]
    return torch.cat(parts).view(fused.shape)


def _view(data: torch.Tensor, first: Placed, last: Placed) -> torch.Tensor:
    span = data[first.at : last.at + last.tensor.num_bytes]
    return span.view(TORCH_DTYPES[first.tensor.torch_dtype])
