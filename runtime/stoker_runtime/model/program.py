"""Makes a program for the native library of a decoder's layers, where it can run all of them.

Knows what the library can do; does not know how (`kernels/program`). Called by the runner. A
decoder that it can't run whole stays with its own layers, product by product.
"""

from __future__ import annotations

import torch

from stoker_runtime.kernels.cache import KvCache
from stoker_runtime.kernels.native import Library
from stoker_runtime.kernels.packed import PackedLinear
from stoker_runtime.kernels.panels import PANEL
from stoker_runtime.kernels.program import Program, ProgramLayer, ProgramShape
from stoker_runtime.kernels.reference import RmsNorm
from stoker_runtime.model.decoder import Decoder, DecoderLayer
from stoker_runtime.model.layers import Mlp


def make_program(model: Decoder, caches: KvCache, library: Library) -> Program | None:
    """A program over the caches of all layers, or None."""
    spec = model.spec
    layers = [
        made
        for layer, cache in zip(model.layers, caches.layers(), strict=True)
        if (made := _make_layer(layer, cache)) is not None
    ]
    is_wide = model.dtype == model.first_norm.weight.dtype == torch.float32
    if len(layers) < spec.num_layers or not is_wide or not library.attends(caches):
        return None
    shape = ProgramShape(
        hidden=spec.hidden_size,
        inter=layers[0].down.weight.cols,
        num_heads=spec.num_heads,
        num_kv_heads=spec.num_kv_heads,
        head_dim=spec.head_dim,
        is_gelu=spec.family.activation != "silu",
        eps=spec.rms_norm_eps,
        scale=spec.score_scale,
        softcap=spec.score_softcap or 0.0,
    )
    return Program(library, shape, model.first_norm.weight, layers)


def _make_layer(layer: DecoderLayer, cache: KvCache) -> ProgramLayer | None:
    if not isinstance(layer.mlp, Mlp):
        return None
    products = (layer.qkv, layer.out, layer.mlp.gate_up, layer.mlp.down)
    qkv, out, gate_up, down = (_plain(product) for product in products)
    if qkv is None or out is None or gate_up is None or down is None:
        return None
    if gate_up.weight.rows % (2 * PANEL):  # gate and up are whole panels
        return None
    return ProgramLayer(
        qkv=qkv,
        out=out,
        gate_up=gate_up,
        down=down,
        head_norm=_weight(layer.heads.norm),
        attn_out_norm=_weight(layer.attn_out_norm),
        mlp_norm=layer.mlp_norm.weight,
        mlp_out_norm=_weight(layer.mlp_out_norm),
        next_norm=layer.next_norm.weight,
        cache=cache,
        rope=layer.rope,
        window=layer.scoring.window,
    )


def _plain(product: object) -> PackedLinear | None:
    """One packed product of columns in their order."""
    return product if isinstance(product, PackedLinear) and product.order is None else None


def _weight(norm: RmsNorm | None) -> torch.Tensor | None:
    return None if norm is None else norm.weight.contiguous()
