"""The timeline of a run: a line of blocks for the terminal, a page with inline SVG for the eye.

Knows samples and how to draw them; does not know what made them. The page loads nothing, follows
the reader's light or dark, and is drawn in blue and orange, which all eyes tell apart (Okabe and
Ito, https://jfly.uni-koeln.de/color/).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from stoker_cli.simulate.run import Sample

BLOCKS = " ▁▂▃▄▅▆▇█"
CELLS = 500
WIDTH, HEIGHT, LEFT, BELOW = 1000, 120, 56, 26
NAMES = ("arrivals a second", "waiting", "ready", "starting")
TITLES = ("Arrivals a second", "Requests that wait", "Replicas ready", "Replicas starting")
_UNITS = ((120, 1, "s"), (7200, 60, "min"), (345600, 3600, "h"), (math.inf, 86400, "d"))
_STEPS = (1, 2, 5, 10, 15, 20, 30, 60)
_STYLE = """
:root{color-scheme:light dark;--ink:#222;--page:#fff;--grid:#ddd;--a:#0072b2;--b:#e69f00}
@media(prefers-color-scheme:dark){:root{--ink:#e6e6e6;--page:#16181c;--grid:#3a3d44;--a:#56b4e9}}
body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1040px;padding:0 1em;
color:var(--ink);background:var(--page)}
h1{font-size:1.4em}h2{font-size:1em;margin:1.2em 0 .2em}svg{display:block;width:100%}
.a{fill:var(--a)}.b{fill:var(--b)}line{stroke:var(--grid)}text{fill:var(--ink);font-size:12px}
div{overflow-x:auto}
table{border-collapse:collapse;white-space:nowrap}td,th{padding:.15em .7em;text-align:right}
td:first-child,th:first-child{text-align:left;padding-left:0}
tr+tr td{border-top:1px solid var(--grid)}
"""


def draw_blocks(values: Sequence[float]) -> str:
    """One character for each value, as a share of the highest; what is not 0 is seen."""
    top = max(values, default=0.0)
    if not top:
        return " " * len(values)
    most = len(BLOCKS) - 1
    return "".join(BLOCKS[max(bool(value), round(value / top * most))] for value in values)


def spread(samples: Sequence[Sample], cells: int) -> dict[str, list[float]]:
    """Series over equal stretches of time: arrivals a second, and the most of each state.

    Between two samples nothing changes, so what the earlier one saw holds until the later one.
    """
    series = {name: [0.0] * cells for name in NAMES}
    end = samples[-1].at if samples else 0.0
    width_s = max(end / cells, 1e-9)
    held, last = 0, (0, 0, 0)
    for sample in samples:
        cell = min(cells - 1, int(sample.at / width_s))
        seen = (sample.queued, sample.ready, sample.starting)
        series["arrivals a second"][cell] += sample.arrivals / width_s
        for name, then, now in zip(NAMES[1:], last, seen, strict=True):
            values = series[name]
            values[held + 1 : cell] = [float(then)] * (cell - held - 1)
            values[cell] = max(values[cell], now)
        held, last = cell, seen
    return series


def describe_span(seconds: float) -> str:
    """A length of time in the unit that suits it: `45 s`, `30 min`, `44.7 h`, `7 d`."""
    unit_s, unit = _pick_unit(seconds)
    return f"{seconds / unit_s:.3g} {unit}"


def build_page(
    title: str, samples: Sequence[Sample], words: Sequence[str], rows: Sequence[Sequence[str]]
) -> str:
    """A page that stands alone. words: paragraphs; rows: of a table, its heads first."""
    series, span_s = spread(samples, CELLS), samples[-1].at if samples else 0.0
    panels = "".join(
        _panel(heading, "b" if name == "starting" else "a", series[name], span_s)
        for heading, name in zip(TITLES, NAMES, strict=True)
    )
    said = "".join(f"<p>{escape(text)}</p>" for text in words)
    name = escape(title)
    viewport = '<meta name=viewport content="width=device-width">'
    return (
        f'<!doctype html><html lang="en"><meta charset=utf-8>{viewport}<title>{name}</title>'
        f"<style>{_STYLE}</style><h1>{name}</h1>{said}<div>{_table(rows)}</div>{panels}\n"
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    heads, *others = rows or [()]
    return f"<table>{line(heads, 'th')}{''.join(line(cells, 'td') for cells in others)}</table>"


def _panel(title: str, mark: str, values: Sequence[float], span_s: float) -> str:
    """One picture with both axes; the area is filled with the mark's colour."""
    top, step = max(values) or 1.0, WIDTH / len(values)
    steps = (f"V{_y(value / top)}H{_x((i + 1) * step)}" for i, value in enumerate(values))
    area = f'<path class="{mark}" d="M{_x(0)} {_y(0)}{"".join(steps)}V{_y(0)}Z"/>'
    size = f'viewBox="0 -8 {LEFT + WIDTH + 20} {HEIGHT + BELOW + 8}"'
    label = f'role="img" aria-label="{title}, at most {top:.3g}, over {describe_span(span_s)}"'
    return f"<h2>{title}</h2><svg {size} {label}>{''.join(_axes(top, span_s))}{area}</svg>"


def _axes(top: float, span_s: float) -> Iterator[str]:
    halves = (0.0, 1.0) if top % 2 == 1 else (0.0, 0.5, 1.0)
    for share in halves:
        y = _y(share)
        yield f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y}" y2="{y}"/>'
        yield f'<text x="{LEFT - 8}" y="{y}" dy="4" text-anchor="end">{share * top:.3g}</text>'
    unit_s, unit = _pick_unit(span_s)
    length = max(span_s / unit_s, 1e-9)
    step = next((step for step in _STEPS if length / step <= 8), math.ceil(length / 8))
    for tick in range(0, math.floor(length) + 1, step):
        x = _x(tick / length * WIDTH)
        yield f'<line x1="{x}" x2="{x}" y1="{HEIGHT}" y2="{HEIGHT + 4}"/>'
        yield f'<text x="{x}" y="{HEIGHT + 18}" text-anchor="middle">{tick} {unit}</text>'


def _pick_unit(span_s: float) -> tuple[int, str]:
    return next((unit_s, unit) for limit_s, unit_s, unit in _UNITS if span_s < limit_s)


def _x(value: float) -> str:
    return f"{LEFT + value:.1f}"


def _y(share: float) -> str:
    return f"{HEIGHT - share * HEIGHT:.1f}"
