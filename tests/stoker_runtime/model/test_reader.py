"""The blob holds every byte at its place, whoever read it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from stoker_runtime.errors import CheckpointBroken
from stoker_runtime.kernels import panels
from stoker_runtime.model import reader
from stoker_runtime.model.checkpoint import Stored
from stoker_runtime.model.layout import Fused, Part
from stoker_runtime.model.reader import BlobReader, Placed, place_tensors, turn_to


def make_file(folder: Path, name: str, size: int) -> Path:
    path = folder / name
    path.write_bytes(bytes((i * 7 + len(name)) % 251 for i in range(size)))
    return path


@pytest.mark.parametrize("num_threads", [1, 4])
def test_reads_every_byte_to_its_place(
    tmp_path: Path, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_PIECE_BYTES", 100)
    one, two = make_file(tmp_path, "one", 1000), make_file(tmp_path, "two!", 777)
    placed = {
        "a": Placed(Stored("a", one, "F32", (), 10, 950), 64),
        "b": Placed(Stored("b", two, "F32", (), 0, 777), 2000),
        "empty": Placed(Stored("empty", two, "F32", (), 0, 0), 1500),
    }
    blob = BlobReader(placed, num_threads).start().wait()
    assert blob[64 : 64 + 950] == one.read_bytes()[10:960]
    assert blob[2000:2777] == two.read_bytes()
    assert blob[0:64] == bytes(64)


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    path = make_file(tmp_path, "one", 100)
    waiting = BlobReader({"a": Placed(Stored("a", path, "F32", (), 0, 200), 0)}, 2).start()
    with pytest.raises(CheckpointBroken, match="one became shorter"):
        waiting.wait()


def test_a_file_that_vanishes_is_noticed(tmp_path: Path) -> None:
    gone = Stored("a", tmp_path / "gone", "F32", (), 0, 8)
    with pytest.raises(CheckpointBroken, match=r"can't be read: .*gone"):
        BlobReader({"a": Placed(gone, 0)}, 1).start().wait()


def test_closes_its_files(tmp_path: Path) -> None:
    path = make_file(tmp_path, "one", 100)
    before = len(list(Path("/proc/self/fd").iterdir()))
    BlobReader({"a": Placed(Stored("a", path, "F32", (), 0, 100), 0)}, 3).start().wait()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_places_fused_parts_next_to_each_other_and_groups_aligned(tmp_path: Path) -> None:
    sizes = {"q": 12, "k": 4, "v": 4, "norm": 6}
    stored = {n: Stored(n, tmp_path, "BF16", (s // 2,), 0, s) for n, s in sizes.items()}
    layout = [
        Fused("qkv", tuple(Part(n, (sizes[n] // 2,)) for n in "qkv")),
        Fused("norm", (Part("norm", (3,)),)),
    ]
    placed = place_tensors(layout, stored)
    assert {name: one.at for name, one in placed.items()} == {"q": 0, "k": 12, "v": 16, "norm": 64}


def test_aligns_each_part_for_its_dtype(tmp_path: Path) -> None:
    stored = {
        "q": Stored("q", tmp_path, "BF16", (3,), 0, 6),
        "k": Stored("k", tmp_path, "F32", (2,), 0, 8),
    }
    placed = place_tensors([Fused("qk", (Part("q", (3,)), Part("k", (2,))))], stored)
    assert placed["k"].at == 8


QKV = Fused("qkv", tuple(Part(name, (rows, 6)) for name, rows in (("q", 40), ("k", 5), ("v", 3))))
NORM = Fused("norm", (Part("norm", (6,)),))


def store(folder: Path, dtype: str = "BF16") -> dict[str, Stored]:
    """The tensors of `QKV` and `NORM`, each in a file of its own."""
    item_bytes = 4 if dtype == "F32" else 2
    stored = {}
    for part in (*QKV.parts, *NORM.parts):
        size = part.num_elements * item_bytes
        file = make_file(folder, part.name, size)
        stored[part.name] = Stored(part.name, file, dtype, part.shape, 0, size)
    return stored


needs_library = pytest.mark.skipif(panels.find_functions() is None, reason="no library")


@needs_library
@pytest.mark.parametrize("piece_bytes", [7, 64, 1 << 20])
@pytest.mark.parametrize("num_threads", [1, 4])
def test_products_become_panels_while_they_are_read(
    tmp_path: Path, num_threads: int, piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(panels, "_SLAB_BYTES", 16 * 12)  # one panel each
    stored = store(tmp_path)
    raw, turned = (place_tensors([QKV, NORM], stored, chosen) for chosen in ((), (QKV,)))
    assert raw["norm"] == turned["norm"]
    plain = BlobReader(raw, num_threads).start().wait()
    blob = BlobReader(turned, num_threads).start().wait()
    units = memoryview(plain[: 48 * 12]).cast("I", (3, 16, 3))
    assert bytes(blob[: 48 * 12]) == b"".join(
        units[panel, row, unit].to_bytes(4, "little")
        for panel in range(3)
        for unit in range(3)
        for row in range(16)
    )
    assert blob[raw["norm"].at :] == plain[raw["norm"].at :]
    assert turn_to(blob, turned, raw)
    assert blob[:] == plain[:]
    assert turn_to(blob, raw, turned)
    assert not turn_to(blob, turned, {"q": turned["q"]})


@needs_library
def test_no_memory_for_a_panel_is_told_and_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed = place_tensors([QKV, NORM], store(tmp_path), (QKV,))
    library = SimpleNamespace(stoker_turn=lambda *_: 0)
    monkeypatch.setattr(panels, "find_functions", lambda: library)
    waiting = BlobReader(placed, 2).start()
    with pytest.raises(MemoryError, match="a panel of 192 bytes"):
        waiting.wait()


@needs_library
@pytest.mark.parametrize("dtype", ["F32", "F16", "F8_E4M3"])
def test_only_what_the_library_multiplies_becomes_panels(tmp_path: Path, dtype: str) -> None:
    placed = place_tensors([QKV, NORM], store(tmp_path, dtype), (QKV,))
    assert (placed["q"].panels is not None) is (dtype != "F8_E4M3")
    assert placed["norm"].panels is None
    mixed = store(tmp_path) | {"v": store(tmp_path, "F32")["v"]}
    assert place_tensors([QKV], mixed, (QKV,))["q"].panels is None
