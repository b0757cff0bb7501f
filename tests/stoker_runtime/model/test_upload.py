"""The blob arrives whole, on a CPU by not moving at all."""

from __future__ import annotations

import pytest
import torch

from stoker_runtime.model import upload
from stoker_runtime.model.upload import cut, send_blob


@pytest.mark.parametrize(("num_bytes", "piece_bytes"), [(1, 4), (4, 4), (10, 4), (12, 4), (0, 4)])
def test_pieces_follow_each_other_to_the_end(num_bytes: int, piece_bytes: int) -> None:
    covered = [place for piece in cut(num_bytes, piece_bytes) for place in range(num_bytes)[piece]]
    assert covered == list(range(num_bytes))
    assert all(piece.stop - piece.start <= piece_bytes for piece in cut(num_bytes, piece_bytes))


def test_a_cpu_keeps_the_blob_where_it_is() -> None:
    data = torch.arange(10, dtype=torch.uint8)
    assert send_blob(data, torch.device("cpu")).data_ptr() == data.data_ptr()


@pytest.mark.gpu
def test_a_device_gets_every_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload, "_PIECE_BYTES", 1000)
    data = torch.randint(256, (12345,), dtype=torch.uint8)
    assert torch.equal(send_blob(data, torch.device("cuda")).cpu(), data)
