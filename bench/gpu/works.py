"""One launch of each work that a table of tiles has, to time candidates with.

Knows the host functions of kernels and sizes that are usual; does not know candidates.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from attention import CACHES, Layer, measure_decode, measure_prompt
from figures import Journal
from products import DTYPE, make_product, take_turns
from stand import Stand
from stopwatch import measure_replayed_s

from stoker_runtime.kernels.gpu import moe
from stoker_runtime.kernels.reference import silu_and_multiply

_KINDS = {"4": "int4", "8": "int8", "16": "bf16"}
_EXPERTS = 8


def run_work(work: str, device: torch.device) -> float:
    """Seconds, or what is less where it is better."""
    kind, *sizes = work.split("/")
    match kind:
        case "prompts" | "decodes":
            return _attend(kind, int(sizes[0]), sizes[1], device)
        case "w4a16":
            several = [make_product(_KINDS[sizes[0]], 14336, 4096, device) for _ in range(4)]
            x = torch.randn(int(sizes[1]), 4096, device=device).to(DTYPE)
            return measure_replayed_s(take_turns(several, x))
        case _:
            return _mix(_KINDS[sizes[0]], int(sizes[1]), device)


def _attend(kind: str, room: int, bits: str, device: torch.device) -> float:
    layer = replace(Layer(), head_dim=room)
    stand = Stand(device.type == "cpu", Journal(Path(tempfile.gettempdir())), Path())
    name = "bf16" if bits == "16" else "int8"
    if kind == "prompts":
        return 1 / measure_prompt(stand, layer, CACHES[name]).value
    return 1 / measure_decode(stand, layer, name, CACHES[name]).value


def _mix(kind: str, block_m: int, device: torch.device) -> float:
    """As many tokens as make tiles of that size pay."""
    ups = [make_product(kind, 2 * 1536, 2048, device) for _ in range(_EXPERTS)]
    downs = [make_product(kind, 2048, 1536, device) for _ in range(_EXPERTS)]
    mixture = moe.group_experts(ups, downs, silu_and_multiply)
    assert mixture is not None, "experts of one kind have a kernel"
    x = torch.randn(4 * block_m, 2048, device=device).to(DTYPE)
    weights, chosen = torch.randn(len(x), _EXPERTS, device=device).softmax(-1).topk(2)
    return measure_replayed_s(lambda: mixture(x, weights, chosen))
