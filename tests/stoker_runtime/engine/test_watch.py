"""What was planned of a GPU's memory is compared with what was taken."""

from __future__ import annotations

import logging

import pytest

from stoker_runtime.engine.watch import Watch


def test_more_than_planned_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    peaks = iter([900 << 20, 1100 << 20, 1200 << 20])
    watch = Watch(1000 << 20, lambda: next(peaks))
    with caplog.at_level(logging.WARNING):
        assert [watch.look() >> 20 for _ in range(3)] == [900, 1100, 1200]
    (record,) = caplog.records
    assert "1100 MiB of the GPU's memory, 100 MiB more than planned" in record.message
