"""`stoker simulate`: a table of what was and of what other settings would change."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stoker_cli.__main__ import app
from support.operator_world import make_deployment
from support.small_cluster import NAMESPACE, OURS, SmallCluster, small_cluster


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    rows = [f"{at},300,20" for at in (5, 6, 7, 400, 401, 2000)]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["arrival_s,input_tokens,output_tokens", *rows]) + "\n")
    return path


def test_the_table_compares_settings_and_the_page_is_written(trace: Path) -> None:
    page = trace.parent / "out.html"
    command = ["simulate", str(trace), "--html", str(page)]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    for name in ("as given", "idleTimeout 75s", "minReplicas 1", "warmPool, wake 1.6s", "± %"):
        assert name in result.output
    assert "Change minReplicas 1" in result.output
    assert " min" in result.output, "the end of the timeline"
    assert "<svg" in page.read_text()


def test_one_run_alone_without_a_calibrated_speed(trace: Path) -> None:
    command = ["simulate", str(trace), "--no-compare", "--no-calibrated"]
    result = CliRunner().invoke(app, command, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "minReplicas 1" not in result.output


def test_times_are_read_as_the_spec_writes_them(trace: Path) -> None:
    options = ["--idle-timeout", "1h30m", "--cold-start", "500ms", "--no-compare"]
    result = CliRunner().invoke(app, ["simulate", str(trace), *options])
    assert "idleTimeout 5400s" in result.output
    assert "cold start 0.5s" in result.output


def test_programs_get_one_document(trace: Path) -> None:
    command = ["simulate", str(trace), "-o", "json", "--price", "2", "--html", "/dev/null"]
    result = CliRunner().invoke(app, command)
    told = json.loads(result.output)
    assert result.exit_code == 0
    assert (told["requests"], told["given"]["idle_timeout_s"]) == (6, 300)
    assert told["advice"].startswith("Change")
    assert {row["setting"] for row in told["settings"]} > {"as given", "minReplicas 1"}


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallCluster]:
    """A deployment, and an operator that remembers its last day."""
    manifest = make_deployment(scaling={"idleTimeout": "90s"})
    manifest["metadata"]["namespace"] = NAMESPACE
    spec = {"containers": [{"name": "operator"}]}
    pods = [{"metadata": {"name": "op"}, "spec": spec, "status": {"phase": "Running"}}]
    columns = ["minute", "requests", "peak", "input_tokens", "output_tokens"]
    told = {"columns": columns, "minutes": [[10, 3, 3, 60, 30], [55, 1, 1, 20, 10]]}
    place = "/api/v1/namespaces/stoker-system/pods"  # where the README installs it
    documents = {
        f"{OURS}/llmdeployments/chat": manifest,
        place: {"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods},
        f"{place}/op:9090/proxy/arrivals/{NAMESPACE}/chat": told,
    }
    with small_cluster(documents, tmp_path, monkeypatch) as server:
        yield server


def test_the_last_day_of_a_deployment_is_replayed(cluster: SmallCluster) -> None:
    assert cluster.documents
    result = CliRunner().invoke(app, ["simulate", "chat"], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "4 requests" in result.output
    assert "idleTimeout 90s" in result.output
    assert "replica-s" in result.output
    options = ["simulate", "chat", "--idle-timeout", "30", "--gpus", "2"]
    changed = CliRunner().invoke(app, options, env={"COLUMNS": "160"})
    assert "idleTimeout 30s" in changed.output
    assert "GPU-s" in changed.output


def test_a_deployment_that_nobody_asked_is_refused_in_words(cluster: SmallCluster) -> None:
    [place] = [path for path in cluster.documents if "arrivals" in path]
    cluster.documents[place] = cluster.documents[place] | {"minutes": []}
    result = CliRunner().invoke(app, ["simulate", "chat"])
    assert result.exit_code == 2
    assert "nothing was asked of team/chat" in " ".join(result.output.split())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--cold-start", "0"),
        ("--idle-timeout", "0"),
        ("--prefill", "0"),
        ("--step", "nan"),
        ("--price", "-1"),
        ("--html", "/nowhere/out.html"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(
    trace: Path, option: str, value: str
) -> None:
    result = CliRunner().invoke(app, ["simulate", str(trace), option, value])
    assert result.exit_code == 2
    assert f"{option} must be" in " ".join(result.output.split())


def test_a_time_that_is_none_is_refused_with_its_option(trace: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", str(trace), "--idle-timeout", "soon"])
    words = " ".join(result.output.split())
    assert result.exit_code == 2
    assert "'--idle-timeout'" in words
    assert "was 'soon'" in words


def test_a_missing_trace_is_refused_in_words(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["simulate", str(tmp_path / "none.csv")])
    assert result.exit_code == 2


def test_bounds_that_leave_nothing_between_them_are_refused(trace: Path) -> None:
    options = ["--min-replicas", "5", "--max-replicas", "2"]
    result = CliRunner().invoke(app, ["simulate", str(trace), *options])
    assert result.exit_code == 2
    assert "--max-replicas must be at least --min-replicas" in " ".join(result.output.split())
