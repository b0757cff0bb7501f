"""Every kernel for GPUs is compiled without one, and its registers and shared memory suffice.

Takes a quarter of an hour the first time: hundreds of compilations, kept by content like those of
`make kernels`, which shows the same.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stoker_runtime.kernels.gpu.cache import Entry
from stoker_runtime.kernels.gpu.catalogue import specialisations
from stoker_runtime.kernels.gpu.compiler import Order, build, find_cache
from stoker_runtime.kernels.gpu.registry import ARCHS

SLIGHT_STACK_BYTES = 128
"""Of a thread of `turn`, where ptxas keeps a few registers in memory though it has more to give."""


@pytest.mark.e2e
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("arch", ARCHS)
def test_no_kernel_runs_out_of_registers(arch: str, tmp_path: Path) -> None:
    order = Order([arch], tmp_path, len(os.sched_getaffinity(0)), cache=find_cache())
    made = build(order, lambda done, total: None)[arch]
    assert [one.key for one in made] == [one.key for one in specialisations(ARCHS[arch])]
    assert [one.key for one in made if one.stack_bytes > find_allowed(one)] == []
    assert max(one.shared_bytes for one in made) <= ARCHS[arch].shared_bytes


def find_allowed(entry: Entry) -> int:
    """Nothing of attention and products, where it would be in the innermost loop."""
    return SLIGHT_STACK_BYTES if entry.key.startswith("turn.") else 0
