"""`stoker kernels build` knows its generations, and shows what kernels take."""

from __future__ import annotations

import pytest
from rich.console import Console
from rich.table import Table
from typer.testing import CliRunner

from stoker_cli.__main__ import app
from stoker_cli.kernels import tabulate, tabulate_roofline
from stoker_runtime.kernels.gpu.cache import Entry


def show(table: Table) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return " ".join(capture.get().split())


def make_entry(key: str, num_registers: int, stack_bytes: int) -> Entry:
    return Entry(key, "kernel", ("u64",), 128, 2048, num_registers, stack_bytes, 0, 4096)


def test_an_unknown_generation_is_refused_by_name() -> None:
    result = CliRunner().invoke(app, ["kernels", "build", "--arch", "sm_90,sm_42"])
    assert result.exit_code == 2
    assert "sm_80, sm_90, not sm_42" in " ".join(result.output.replace("│", " ").split())


def test_kernels_are_summed_up_by_function() -> None:
    entries = [make_entry("a.x(1)", 40, 0), make_entry("a.x(2)", 90, 8), make_entry("b.y()", 20, 0)]
    shown = show(tabulate("sm_90", entries))
    assert "sm_90: 3 kernels" in shown
    assert "a.x 2 90 2 1 8" in shown
    assert "b.y 1 20 2 0 4" in shown


@pytest.mark.parametrize(("arch", "card"), [("sm_90", "H200"), ("sm_80", "A100 80GB")])
def test_least_times_name_their_card(arch: str, card: str) -> None:
    shown = show(tabulate_roofline(arch))
    assert f"least times by datasheet: {card}" in shown
    assert "1 × 4096 · 14336, bf16" in shown
    assert "sums" in shown
    assert "memory" in shown
