"""Moves factors between a product's columns and whatever makes its inputs.

Knows a layer's structure by the decoder's names: norm → qkv, values → out, norm → gate and up,
up → down; elsewhere (experts behind a router) nothing is moved. What the network computes stays the
same. Does not know how factors are found (`quant/awq`). Called by `compression`.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import torch

from stoker_runtime.kernels.linear import Linear
from stoker_runtime.model.spec import ModelSpec
from stoker_runtime.model.storage import BIAS, WEIGHT
from stoker_runtime.quant.awq import search_factors
from stoker_runtime.quant.pack import Scheme


class Recorder:
    """A product that remembers the second moments of its inputs."""

    def __init__(self, inner: Linear, columns: int) -> None:
        self._inner = inner
        self.moments = torch.zeros(columns, columns)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:  # [num_tokens, out]
        """Apply it to [num_tokens, in]."""
        values = x.float()
        self.moments.addmm_(values.t(), values)
        return self._inner(x)


class Folding:
    """The products that were recorded, and the tensors of the whole network."""

    def __init__(
        self,
        spec: ModelSpec,
        scheme: Scheme,
        tensors: MutableMapping[str, torch.Tensor],
        recorders: Mapping[str, Recorder],
    ) -> None:
        self._spec = spec
        self._scheme = scheme
        self._tensors = tensors
        self._recorders = recorders
        self.changed: set[str] = set()
        """Names of the tensors that are new."""

    def fold_all(self) -> None:
        """Search and move the factors of every product whose inputs' maker can take them."""
        spec = self._spec
        per_value = spec.num_heads // spec.num_kv_heads
        for index in range(spec.num_layers):
            layer = f"layers.{index}."
            self._fold_norm(f"{layer}attn_norm", f"{layer}qkv")
            values = slice(-spec.kv_size, None)
            self._fold_rows(f"{layer}qkv", values, f"{layer}out", (spec.num_kv_heads, per_value))
            self._fold_norm(f"{layer}mlp_norm", f"{layer}gate_up")
            self._fold_rows(
                f"{layer}gate_up", slice(-spec.intermediate_size, None), f"{layer}down", (1, 1)
            )

    def _fold_norm(self, norm: str, product: str) -> None:
        """The norm's weight is rounded as it is stored, and the columns make good for that."""
        recorder = self._recorders.get(product)
        if recorder is None or not bool(recorder.moments.any()):
            return
        old = self._tensors[norm].float() + self._norm_offset
        factors = self._search(product, recorder, (1, 1))
        new = (old / factors - self._norm_offset).to(torch.bfloat16).float()
        exact = old / (new + self._norm_offset)
        exact = torch.where(torch.isfinite(exact) & (exact > 0), exact, torch.ones_like(exact))
        self._set(norm, new)
        self._scale_columns(product, recorder, exact)

    def _fold_rows(self, maker: str, rows: slice, product: str, heads: tuple[int, int]) -> None:
        recorder = self._recorders.get(product)
        if recorder is None or maker not in self._recorders or not bool(recorder.moments.any()):
            return
        factors = self._search(product, recorder, heads)
        divisors = factors.view(*heads, -1)[:, 0].flatten()
        for suffix in (WEIGHT, BIAS):
            if maker + suffix in self._tensors:
                new = self._tensors[maker + suffix].clone()
                new[rows] /= divisors[:, None] if suffix == WEIGHT else divisors
                self._set(maker + suffix, new)
        self._scale_columns(product, recorder, factors)

    @property
    def _norm_offset(self) -> float:
        """Gemma stores w - 1."""
        return 1.0 if self._spec.family.is_gemma else 0.0

    def _search(self, product: str, recorder: Recorder, heads: tuple[int, int]) -> torch.Tensor:
        return search_factors(
            self._tensors[product + WEIGHT], recorder.moments, self._scheme, heads
        )

    def _scale_columns(self, product: str, recorder: Recorder, factors: torch.Tensor) -> None:
        self._set(product + WEIGHT, self._tensors[product + WEIGHT] * factors)
        recorder.moments /= factors[:, None] * factors

    def _set(self, name: str, tensor: torch.Tensor) -> None:
        self._tensors[name] = tensor
        self.changed.add(name)
