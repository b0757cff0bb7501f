"""How much of a work one program takes on each generation of GPUs: what `tables/*.json` say.

Knows names of works and four numbers for each; does not know kernels. The tables are written by
`bench/gpu/tune.py`, read when kernels are compiled and when they are launched, and never searched
while serving.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import torch

TABLES = Path(__file__).with_name("tables")


@dataclass(frozen=True, slots=True)
class Shape:
    """One program's share of a work, and what it is computed with."""

    block_m: int
    """Rows of its product."""
    block_n: int
    """Columns of its product; of attention, keys at a time."""
    num_warps: int
    num_stages: int
    """Loads in flight of its loop."""


def find_shape(arch: str, work: str, *sizes: int) -> Shape:
    """The shape of a work with these sizes: `find_shape("sm_90", "w4a16", 4, 16)`."""
    return read_table(arch)[name_work(work, *sizes)]


def name_work(work: str, *sizes: int) -> str:
    """Its name in the tables: `w4a16/4/16`."""
    return "/".join((work, *map(str, sizes)))


@functools.cache
def read_table(arch: str) -> dict[str, Shape]:
    """All works of a generation."""
    table = json.loads((TABLES / f"{arch}.json").read_text())
    return {name: Shape(*numbers) for name, numbers in table.items()}


def write_table(arch: str, table: Mapping[str, Shape]) -> None:
    """Replace a generation's table, a line per work."""
    lines = (f'  "{name}": {json.dumps(astuple(shape))}' for name, shape in table.items())
    (TABLES / f"{arch}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


@functools.cache
def find_arch(device: torch.device) -> str:
    """The table for a device; the interpreter takes the newest."""
    is_old = device.type == "cuda" and torch.cuda.get_device_capability(device) < (9, 0)
    return "sm_80" if is_old else "sm_90"
