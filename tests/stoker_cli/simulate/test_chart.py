"""Timelines as blocks and as a page that loads nothing."""

from __future__ import annotations

from stoker_cli.simulate.chart import bin_peaks, build_page, draw_blocks, spread
from stoker_cli.simulate.run import Sample

SAMPLES = [
    Sample(0.0, 0, 0, 0, 0, 0, "Steady"),
    Sample(10.0, 4, 4, 0, 0, 2, "DemandAtZero"),
    Sample(30.0, 0, 0, 4, 2, 0, "Busy"),
    Sample(100.0, 2, 1, 1, 0, 0, "IdleTimeout"),
]


def test_blocks_show_the_peak_of_each_stretch() -> None:
    assert draw_blocks([0, 1, 0, 8], 2) == "▁█"
    assert draw_blocks([0, 0], 3) == "   "
    assert bin_peaks([1, 5, 2], 6) == [1, 1, 5, 5, 2, 2]


def test_replicas_stay_between_looks_and_arrivals_are_rates() -> None:
    series = spread(SAMPLES, 10)
    assert series["ready"][3:9] == [2, 2, 2, 2, 2, 2]
    assert round(sum(series["arrivals a second"]) * 10) == 6
    assert max(series["waiting"]) == 4
    assert spread([], 4)["ready"] == [0, 0, 0, 0]


def test_the_page_stands_alone_and_escapes_its_title() -> None:
    page = build_page("a <b>", SAMPLES)
    assert "a &lt;b&gt;" in page
    assert page.count("<polyline") == 4
    assert "http" not in page
    assert "<svg" in build_page("empty", [])
