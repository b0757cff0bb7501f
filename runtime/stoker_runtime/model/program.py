"""Makes a program for the native library of a decoder's layers, where it can run all of them.

Knows what the library can do; does not know how (`kernels/program`). Called by the runner. A
decoder that it can't run whole stays with its own layers, product by product.
"""

from __future__ import annotations

import torch

from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.linear import DenseLinear, Linear
from stoker_runtime.kernels.native import Library
from stoker_runtime.kernels.packed import PackedLinear, pack_linear
from stoker_runtime.kernels.panels import PANEL
from stoker_runtime.kernels.program import (
    Program,
    ProgramLayer,
    ProgramMixture,
    ProgramMlp,
    ProgramShape,
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
    layers = zip(model.layers, caches.layers(), strict=True)
    shape = ProgramShape(
        hidden=spec.hidden_size,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        is_gelu=spec.family.activation != "silu",
        eps=spec.rms_norm_eps,
        scale=spec.score_scale,
        softcap=spec.score_softcap or 0.0,
    )
    norm = model.first_norm.weight
    return Program(library, shape, norm, [_make_layer(*pair) for pair in layers])


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


def _make_layer(layer: DecoderLayer, cache: KvCache) -> ProgramLayer:
    mlp = layer.mlp if isinstance(layer.mlp, Mlp) else None
    experts = layer.mlp if isinstance(layer.mlp, Experts) else None
    if experts and experts.shared:
        mlp = experts.shared.mlp
    return ProgramLayer(
        qkv=_packed(layer.qkv),
        out=_packed(layer.out),
        mlp=None if mlp is None else _make_mlp(mlp),
        mixture=None if experts is None else _make_mixture(experts),
        head_norm=_weight(layer.heads.norm),
        attn_out_norm=_weight(layer.attn_out_norm),
        mlp_norm=layer.mlp_norm.weight,
        mlp_out_norm=_weight(layer.mlp_out_norm),
        next_norm=layer.next_norm.weight,
        cache=cache,
        rope=layer.rope,
        window=layer.scoring.window,
    )


def _make_mlp(mlp: Mlp) -> ProgramMlp:
    return ProgramMlp(_packed(mlp.gate_up), _packed(mlp.down))


def _make_mixture(experts: Experts) -> ProgramMixture:
    return ProgramMixture(
        experts=[_make_mlp(mlp) for mlp in experts.mlps],
        router=_packed(pack_linear(DenseLinear(experts.router.float()))),
        shared_gate=experts.shared.gate.float().contiguous() if experts.shared else None,
        num_chosen=experts.num_chosen,
        normalizes=experts.normalizes,
    )


def _packed(product: Linear) -> PackedLinear:
    assert isinstance(product, PackedLinear), "`_fits` says whether it is"
    return product


def _weight(norm: RmsNorm | None) -> torch.Tensor | None:
    return None if norm is None else norm.weight.contiguous()
