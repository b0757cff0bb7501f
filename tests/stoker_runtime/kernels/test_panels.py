"""Bytes are turned into panels where they lie, and back, and lie as the library packs them."""

from __future__ import annotations

import numpy as np
import pytest

from stoker_runtime.kernels import panels
from stoker_runtime.kernels.panels import PANEL, Panels, can_panel, find_functions

pytestmark = pytest.mark.skipif(find_functions() is None, reason="the library is not built")


@pytest.mark.parametrize("units", [1, 3, 16, 70])
def test_panels_hold_a_unit_of_16_rows_side_by_side(units: int) -> None:
    rows = np.random.default_rng(units).integers(-(1 << 31), 1 << 31, (48, units)).astype("<i4")
    blob = bytearray(b"before!!" + rows.tobytes() + b"after")
    whole = Panels(8, 48, 4 * units)
    whole.turn(memoryview(blob))
    turned = np.frombuffer(blob, "<i4", rows.size, 8).reshape(3, units, PANEL)
    assert np.array_equal(turned, rows.reshape(3, PANEL, units).transpose(0, 2, 1))
    whole.turn(memoryview(blob), back=True)
    assert blob == b"before!!" + rows.tobytes() + b"after"


def test_slabs_cover_a_matrix_once_in_whole_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "_SLAB_BYTES", 1000)
    slabs = list(Panels(64, 16 * 7, 20).slabs())
    assert [slab.rows for slab in slabs] == [48, 48, 16]
    assert [slab.at for slab in slabs] == [64, 64 + 960, 64 + 1920]
    assert sum(slab.num_bytes for slab in slabs) == 16 * 7 * 20


def test_a_panel_larger_than_a_slab_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "_SLAB_BYTES", 100)
    assert [slab.rows for slab in Panels(0, 32, 20).slabs()] == [16, 16]


@pytest.mark.parametrize(("rows", "row_bytes"), [(17, 8), (16, 6), (0, 8), (16, 0)])
def test_only_whole_panels_of_whole_units_can_be_turned(rows: int, row_bytes: int) -> None:
    assert can_panel(16, 8)
    assert not can_panel(rows, row_bytes)


def test_without_a_library_nothing_is_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panels, "find_functions", lambda: None)
    assert not can_panel(16, 8)
