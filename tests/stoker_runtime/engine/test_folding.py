"""Folding changes how a network's numbers are shared out, and nothing that it computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stoker_runtime.engine.compression import Compression, Order
from stoker_runtime.engine.evaluation import chunks
from stoker_runtime.engine.examples import Example
from stoker_runtime.engine.folding import Folding
from stoker_runtime.quant.pack import Scheme
from support.checkpoints import LlamaShape, write_checkpoint

SCHEME = Scheme(4, 32, symmetric=True)
TEXT = Example(tuple(range(3, 60)))
SHAPES = {
    "plain": LlamaShape(),
    "one-value-head": LlamaShape(num_key_value_heads=1),
    "biases": LlamaShape(attention_bias=True, mlp_bias=True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_network_computes_the_same(tmp_path: Path, name: str) -> None:
    source = write_checkpoint(tmp_path / "source", SHAPES[name])
    one = Compression(Order(source, tmp_path / "out", SCHEME, "awq"))
    products = [fused for fused in one._recipe.layout if one._is_rounded(fused)]
    recorders = one._record(products, [TEXT])
    before = one._build_runner(one._linears).compute(chunks([TEXT]))
    folding = Folding(one._recipe.spec, SCHEME, one._tensors, recorders)
    folding.fold_all()
    assert "layers.0.attn_norm" in folding.changed
    assert "layers.1.down.weight" in folding.changed
    after = one._build_runner(one._dense()).compute(chunks([TEXT]))
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_moments_follow_the_inputs(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    one = Compression(Order(source, tmp_path / "out", SCHEME, "awq"))
    products = [fused for fused in one._recipe.layout if one._is_rounded(fused)]
    recorders = one._record(products, [TEXT])
    Folding(one._recipe.spec, SCHEME, one._tensors, recorders).fold_all()
    one._linears = one._dense()
    again = one._record(products, [TEXT])
    for name, recorder in recorders.items():
        scale = float(again[name].moments.abs().max())
        torch.testing.assert_close(
            recorder.moments / scale, again[name].moments / scale, rtol=1e-2, atol=1e-3
        )
