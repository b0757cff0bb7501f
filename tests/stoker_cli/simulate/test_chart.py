"""Timelines as blocks and as a page that loads nothing."""

from __future__ import annotations

import pytest

from stoker_cli.simulate.chart import TITLES, build_page, describe_span, draw_blocks, spread
from stoker_cli.simulate.run import Sample

SAMPLES = [
    Sample(0.0, 0, 0, 0, 0, 0, "Steady"),
    Sample(10.0, 4, 4, 0, 0, 2, "DemandAtZero"),
    Sample(30.0, 0, 0, 4, 2, 0, "Busy"),
    Sample(100.0, 2, 1, 1, 0, 0, "IdleTimeout"),
]


def test_blocks_show_shares_of_the_highest_and_hide_nothing() -> None:
    assert draw_blocks([0, 1, 4, 8]) == " ▁▄█"
    assert draw_blocks([0.001, 8]) == "▁█"
    assert draw_blocks([0, 0, 0]) == "   "


def test_replicas_stay_between_looks_and_arrivals_are_rates() -> None:
    series = spread(SAMPLES, 10)
    assert series["ready"][3:9] == [2, 2, 2, 2, 2, 2]
    assert round(sum(series["arrivals a second"]) * 10) == 6
    assert max(series["waiting"]) == 4
    assert spread([], 4)["ready"] == [0, 0, 0, 0]


def test_a_peak_ends_with_the_sample_that_ends_it_however_long_nothing_is_seen_then() -> None:
    samples = [
        Sample(0.0, 9, 9, 0, 5, 1, "Busy"),
        Sample(1.0, 0, 0, 1, 1, 0, "IdleWindow"),
        Sample(100.0, 1, 0, 0, 0, 0, "IdleTimeout"),
    ]
    series = spread(samples, 10)
    assert series["waiting"] == [9] + [0] * 9
    assert series["ready"] == [5] + [1] * 8 + [0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(45, "45 s"), (1800, "30 min"), (160_920, "44.7 h"), (604_800, "7 d"), (0, "0 s")],
)
def test_a_span_is_told_in_its_own_unit(seconds: float, words: str) -> None:
    assert describe_span(seconds) == words


def test_the_page_stands_alone_and_escapes_what_it_is_given() -> None:
    page = build_page("a <b>", SAMPLES, ["1 < 2"], [["setting", "idle"], ["x & y", "7"]])
    assert "a &lt;b&gt;" in page
    assert "<p>1 &lt; 2</p>" in page
    assert "<td>x &amp; y</td><td>7</td>" in page
    assert "http" not in page
    assert "prefers-color-scheme:dark" in page
    assert "<svg" in build_page("empty", [], [], [])


def test_every_picture_has_both_axes_and_says_in_words_what_it_shows() -> None:
    page = build_page("a", SAMPLES, [], [])
    pictures = page.split("<svg")[1:]
    for title, top in zip(TITLES, ("20", "4", "2", "2"), strict=True):
        [picture] = [one for one in pictures if f'aria-label="{title}, at most' in one]
        assert f">{top}</text>" in picture
        assert ">90 s</text>" in picture
        assert picture.count("<path") == 1


def test_an_area_is_as_high_as_its_share_and_ends_where_the_time_does() -> None:
    [_, waiting, *_] = build_page("a", SAMPLES, [], []).split("<path")[1:]
    assert waiting.startswith(' class="a" d="M56.0 120.0V120.0H58.0')
    assert "V0.0H" in waiting, "four of at most four wait"
    assert "H1056.0V120.0Z" in waiting
