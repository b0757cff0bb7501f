"""The timeline of a run: a line of blocks for the terminal, a page with inline SVG for the eye.

Knows samples and how to draw them; does not know what made them. The page loads nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from stoker_cli.simulate.run import Sample

BLOCKS = " ▁▂▃▄▅▆▇█"
WIDTH, HEIGHT = 1000, 160


def draw_blocks(values: Sequence[float], cells: int = 80) -> str:
    """One character for each cell: the highest value in it, as a share of the highest of all."""
    top = max(values, default=0.0)
    if not top:
        return " " * cells
    bins = bin_peaks(values, cells)
    return "".join(BLOCKS[round(value / top * (len(BLOCKS) - 1))] for value in bins)


def bin_peaks(values: Sequence[float], cells: int) -> list[float]:
    """The highest value of each of `cells` equal stretches."""
    size = len(values) / cells
    return [
        max(values[int(i * size) : max(int((i + 1) * size), int(i * size) + 1)], default=0.0)
        for i in range(cells)
    ]


def spread(samples: Sequence[Sample], cells: int) -> dict[str, list[float]]:
    """Series over equal stretches of time: arrivals a second, waiting, ready, starting."""
    names = ("arrivals a second", "waiting", "ready", "starting")
    series = {name: [0.0] * cells for name in names}
    end = samples[-1].at if samples else 0.0
    width_s = max(end / cells, 1e-9)
    held = 0
    for sample in samples:
        cell = min(cells - 1, int(sample.at / width_s))
        for later in range(held + 1, cell):
            series["ready"][later] = series["ready"][held]
        series["arrivals a second"][cell] += sample.arrivals / width_s
        for name, value in (
            ("waiting", sample.queued),
            ("ready", sample.ready),
            ("starting", sample.starting),
        ):
            series[name][cell] = max(series[name][cell], value)
        held = cell
    return series


def build_page(title: str, samples: Sequence[Sample]) -> str:
    """A page that stands alone: one panel for each series."""
    series = spread(samples, 500)
    panels = "".join(_panel(name, values) for name, values in series.items())
    hours = samples[-1].at / 3600 if samples else 0.0
    style = "body{font:14px system-ui;margin:2em;max-width:1040px}svg{background:#f6f6f4}"
    return (
        f"<!doctype html><meta charset=utf-8><title>{escape(title)}</title><style>{style}</style>"
        f"<h1>{escape(title)}</h1><p>{hours:.2f} hours, left to right</p>{panels}\n"
    )


def _panel(name: str, values: Sequence[float]) -> str:
    top = max(values, default=0.0) or 1.0
    step = WIDTH / max(1, len(values))
    points = " ".join(
        f"{i * step:.1f},{HEIGHT - value / top * HEIGHT:.1f}" for i, value in enumerate(values)
    )
    return (
        f"<h2>{escape(name)}, at most {top:.3g}</h2>"
        f'<svg viewBox="0 -4 {WIDTH} {HEIGHT + 8}" width="100%" role="img">'
        f'<polyline points="{points}" fill="none" stroke="#b4451f" stroke-width="1.5"/></svg>'
    )
