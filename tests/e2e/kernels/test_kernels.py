"""Every product for GPUs is compiled without one, and its registers suffice.

Takes minutes: hundreds of compilations. `make kernels` shows the same for all kernels.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stoker_runtime.kernels.gpu.catalogue import specialisations_of
from stoker_runtime.kernels.gpu.compiler import Order, build
from stoker_runtime.kernels.gpu.registry import ARCHS

PRODUCTS = ("moe", "rows", "w4a16", "w8a8")


@pytest.mark.e2e
def test_no_product_runs_out_of_registers(tmp_path: Path) -> None:
    processes = len(os.sched_getaffinity(0))
    order = Order(tuple(ARCHS), tmp_path, processes, PRODUCTS)
    made = build(order, lambda done, total: None)
    for name, entries in made.items():
        wanted = [one.key for file in PRODUCTS for one in specialisations_of(file, ARCHS[name])]
        assert [one.key for one in entries] == wanted
        assert [one.key for one in entries if one.stack_bytes] == []
        assert max(one.shared_bytes for one in entries) <= ARCHS[name].shared_bytes
