"""Tables and the JSON document."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from stoker_cli.bench import report
from stoker_cli.bench.measure import Goals, Sample, summarize
from stoker_cli.bench.plan import Plan
from stoker_cli.bench.report import Result
from stoker_cli.bench.workload import WORKLOADS

ROOT = Path(__file__).parents[3]
PLAN = Plan(WORKLOADS["short"], Goals(2.0, 0.05), concurrency=2, num_requests=2)


def make_result(pace: float = 1.0, round: int = 1, error: str = "") -> Result:
    """Two requests, all of whose times are `pace` times those of the others."""
    samples = tuple(
        Sample(0, 0.1 * pace, 3 * pace, pace, 2 * pace, (pace,), 10, 11, 5, True, error)
        for _ in range(2)
    )
    return Result("http://h/v1", "m", round, summarize(samples, PLAN.goals), samples)


def draw(table: Table) -> str:
    console = Console(width=120)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_a_closed_loop_has_no_rows_of_the_schedule() -> None:
    text = draw(report.draw_summary(make_result(), is_open=False))
    assert "time to first token" in text
    assert "900.0" in text
    assert "due" not in text
    assert "due" in draw(report.draw_summary(make_result(), is_open=True))


def test_lines_say_what_happened() -> None:
    text = "\n".join(report.write_lines(make_result().summary, PLAN))
    for words in ("2 answers in 3.0 s", "0 failed", "7.3 out", "10 from the prefix cache"):
        assert words in text
    assert "goodput: 0.0%" in text
    text = "\n".join(report.write_lines(make_result(error="timeout").summary, PLAN))
    assert "2 failed: 2 × timeout" in text


def test_ratios_are_the_second_over_the_first() -> None:
    runs = [make_result(), make_result(2.0), make_result(1.0, 2), make_result(0.5, 2)]
    first, second = report.compare(runs)
    assert (first.round, second.round) == (1, 2)
    assert first.output_rate == pytest.approx(0.5)
    assert first.ttft_p50 == pytest.approx(2.0)
    assert second.e2e_p50 == pytest.approx(0.5)
    assert "1.250" in draw(report.draw_ratios([first, second]))


def test_a_run_without_answers_has_no_ratio() -> None:
    [ratio] = report.compare([make_result(error="timeout"), make_result()])
    assert ratio.output_rate is None
    assert ratio.ttft_p50 is None
    assert "–" in draw(report.draw_ratios([ratio]))


def test_the_document_is_json_whose_every_key_is_described() -> None:
    document = report.build_document(PLAN, "id", [make_result(), make_result(2.0)])
    assert json.loads(json.dumps(document))["schema"] == "stoker-bench/1"
    assert [run["round"] for run in document["runs"]] == [1, 1]  # type: ignore[attr-defined]
    page = (ROOT / "docs/bench.md").read_text()
    assert [key for key in keys(document) if f"`{key}`" not in page] == []


def keys(value: object) -> set[str]:
    """Every key of the document, at any depth; kinds of failure are the server's own words."""
    if isinstance(value, dict):
        return set(value).union(*map(keys, value.values()))
    return set[str]().union(*map(keys, value)) if isinstance(value, list | tuple) else set()


def test_ratios_need_two_servers() -> None:
    alone = [make_result(), replace(make_result(), round=2)]
    assert report.build_document(PLAN, "id", alone)["ratios"] == []
