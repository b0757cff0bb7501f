"""Makes a program for the native library of a decoder's layers, where it can run all of them.

Knows what the library can do, and fills the structures that tell it; does not know how they lie in
memory (`kernels/program`). Called by the runner. A decoder that it can't run whole stays with its
own layers, product by product.
"""

from __future__ import annotations

import ctypes

import torch

from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.linear import DenseLinear, Linear
from stoker_runtime.kernels.native import Library
from stoker_runtime.kernels.packed import PackedLinear, pack_linear
from stoker_runtime.kernels.panels import PANEL
from stoker_runtime.kernels.program import (
    NativeLayer,
    NativeMixture,
    NativeMlp,
    NativeProgram,
    Program,
)
from stoker_runtime.kernels.reference import RmsNorm
from stoker_runtime.model.decoder import Decoder, DecoderLayer
from stoker_runtime.model.layers import Experts, Mlp


def make_program(model: Decoder, caches: KvCache, library: Library) -> Program | None:
    """A program over the caches of all layers, or None."""
    spec = model.spec
    is_wide = model.dtype == model.first_norm.weight.dtype == torch.float32
    if not is_wide or not library.attends(caches) or not all(map(_fits, model.layers)):
        return None
    filler = _Filler()
    pairs = zip(model.layers, caches.layers(), strict=True)
    layers = (NativeLayer * spec.num_layers)(*(filler.layer(*pair) for pair in pairs))
    described = NativeProgram(
        layers=layers,
        first_norm=filler.data(model.first_norm.weight),
        num_layers=spec.num_layers,
        hidden=spec.hidden_size,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        block_size=caches.block_size,
        is_gelu=spec.family.activation != "silu",
        eps=spec.rms_norm_eps,
        scale=spec.score_scale,
        softcap=spec.score_softcap or 0.0,
    )
    return Program(library, described, (layers, filler.held))


def _fits(layer: DecoderLayer) -> bool:
    """All products are packed, gates are whole panels, and experts are alike."""
    products: list[Linear] = [layer.qkv, layer.out]
    if isinstance(layer.mlp, Mlp):
        mlps = [layer.mlp]
    elif not isinstance(layer.mlp, Experts):  # the sum of several ranks'
        return False
    else:
        mlps = [*layer.mlp.mlps, *([layer.mlp.shared.mlp] if layer.mlp.shared else [])]
        kinds = {(_kind_of(mlp.gate_up), _kind_of(mlp.down)) for mlp in layer.mlp.mlps}
        if len(kinds) > 1:
            return False
    products += [product for mlp in mlps for product in (mlp.gate_up, mlp.down)]
    are_packed = all(isinstance(product, PackedLinear) for product in products)
    return are_packed and all(_packed(mlp.gate_up).weight.rows % (2 * PANEL) == 0 for mlp in mlps)


def _kind_of(product: Linear) -> tuple[int, ...] | None:
    if not isinstance(product, PackedLinear):
        return None
    weight = product.weight
    return weight.kind, weight.rows, weight.cols, weight.group


class _Filler:
    """Fills structures, and keeps all that they point to."""

    def __init__(self) -> None:
        self.held: list[object] = []

    def layer(self, layer: DecoderLayer, cache: KvCache) -> NativeLayer:
        """One layer's weights, all float32 besides those of products, and its part of the cache."""
        mlp = layer.mlp if isinstance(layer.mlp, Mlp) else None
        experts = layer.mlp if isinstance(layer.mlp, Experts) else None
        if experts and experts.shared:
            mlp = experts.shared.mlp
        scales = (None, None) if cache.scales is None else cache.scales
        return NativeLayer(
            qkv=self.weight(layer.qkv),
            out=self.weight(layer.out),
            mlp=NativeMlp() if mlp is None else self.mlp(mlp),
            mixture=None if experts is None else self.mixture(experts),
            head_norm=self.norm(layer.heads.norm),
            attn_out_norm=self.norm(layer.attn_out_norm),
            mlp_norm=self.norm(layer.mlp_norm),
            mlp_out_norm=self.norm(layer.mlp_out_norm),
            next_norm=self.norm(layer.next_norm),
            keys=self.data(cache.data[0]),
            values=self.data(cache.data[1]),
            key_scales=self.data(scales[0]),
            value_scales=self.data(scales[1]),
            rope=-1 if layer.rope is None else layer.rope,
            window=layer.scoring.window,
        )

    def mlp(self, mlp: Mlp) -> NativeMlp:
        """down(gate(x) · up(x))."""
        return NativeMlp(self.weight(mlp.gate_up), self.weight(mlp.down))

    def mixture(self, experts: Experts) -> ctypes._Pointer[NativeMixture]:
        """Experts of one shape, of which each token gets a few; a shared one is the layer's MLP."""
        mlps = (NativeMlp * len(experts.mlps))(*map(self.mlp, experts.mlps))
        gate = experts.shared.gate.float().contiguous() if experts.shared else None
        mixture = NativeMixture(
            experts=mlps,
            router=self.weight(pack_linear(DenseLinear(experts.router.float()))),
            shared_gate=self.data(gate),
            num_experts=len(mlps),
            num_chosen=experts.num_chosen,
            normalizes=experts.normalizes,
        )
        self.held += [mlps, mixture]
        return ctypes.pointer(mixture)

    def weight(self, product: Linear) -> int:
        """Where its description is."""
        weight = _packed(product).weight
        self.held.append(product)
        return ctypes.addressof(weight)

    def norm(self, norm: RmsNorm | None) -> int | None:
        """Where its weight is."""
        return None if norm is None else self.data(norm.weight.contiguous())

    def data(self, tensor: torch.Tensor | None) -> int | None:
        """Where its numbers are."""
        self.held.append(tensor)
        return None if tensor is None else tensor.data_ptr()


def _packed(product: Linear) -> PackedLinear:
    assert isinstance(product, PackedLinear), "`_fits` says whether it is"
    return product
