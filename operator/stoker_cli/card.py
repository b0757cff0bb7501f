"""What one GPU has, by the name that people call it.

Knows total memory as `nvidia-smi` shows it, in MiB, which is less than the name says where a part
of it corrects errors; does not know speed or price.
"""

from __future__ import annotations

import typer

MEMORY_MIB = {
    "L4": 23034,
    "A10": 23028,
    "A10G": 23028,
    "RTX4090": 24564,
    "A100-40GB": 40960,
    "A6000": 49140,
    "L40S": 46068,
    "A100-80GB": 81920,
    "H100": 81559,
    "H200": 143771,
    "B200": 183359,
}


def find_memory_gib(gpu: str) -> float:
    """Memory of a GPU by name, case aside. Refuses a name it does not know, with those it does."""
    known = {name.lower(): mib for name, mib in MEMORY_MIB.items()}
    if gpu.lower() not in known:
        names = ", ".join(MEMORY_MIB)
        raise typer.BadParameter(f"--gpu knows {names}, not {gpu!r}; --memory takes any size")
    return known[gpu.lower()] / 1024
