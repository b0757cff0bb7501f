"""What users read is true: fields, settings, metrics, reasons, commands and links of the manual."""

import ast
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

import stoker_operator.metrics  # noqa: F401  registers the operator's metrics
from stoker_api.conditions import ConditionType, Reason
from stoker_api.crd import build_crds
from stoker_api.reference import FILE as API_FILE
from stoker_cli.__main__ import app
from stoker_gateway.metrics import Metrics as GatewayMetrics
from stoker_operator.cluster.ledger import DemandLedger
from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.handlers.dashboard import Dashboard
from stoker_runtime.server.metrics import Metrics as RuntimeMetrics
from stoker_runtime.wire import Loaded
from support import pages

ROOT = Path(__file__).parents[1]
METRICS_PAGE = (ROOT / "docs/metrics.md").read_text()
MANUALS = sorted(
    path
    for path in {*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("runtime/**/*.md")}
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
PARAGRAPHS = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def fields(schema: dict[str, Any], path: str) -> Iterator[str]:
    for name, part in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields(part, f"{path}.{name}")
        yield from fields(part.get("items", {}), f"{path}.{name}[]")


def test_golden_settings_page_is_what_the_classes_say() -> None:
    if os.environ.get("STOKER_GOLDEN") == "write":
        pages.write_settings(ROOT)
    assert (ROOT / pages.SETTINGS_FILE).read_text() == pages.render_settings(), "run `make golden`"


def test_every_field_of_the_crds_has_a_row() -> None:
    page = (ROOT / API_FILE).read_text()
    for crd in build_crds():
        schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            for path in fields(schema["properties"][part], part):
                section, _, field = path.rpartition(".")
                assert f"### `{section}`" in page
                assert f"\n| `{field}`" in page


def test_every_condition_and_reason_is_explained() -> None:
    page = (ROOT / API_FILE).read_text()
    assert [kind for kind in ConditionType if f"### `{kind}`" not in page] == []
    assert [reason for reason in Reason if f"| `{reason}` | {reason.meaning} |" not in page] == []


def test_every_reason_can_occur() -> None:
    rooms = ("operator/stoker_operator", "runtime/stoker_runtime")
    texts = [path.read_text() for room in rooms for path in (ROOT / room).rglob("*.py")]
    code = "\n".join(texts)
    unused = [r for r in Reason if f"Reason.{r.name}" not in code and f'"{r}"' not in code]
    assert unused == []


def exported() -> dict[str, str]:
    """Name as scraped → type, of every metric of ours."""
    loaded = Loaded(1, 1, 1, 1, 1, (1,))
    runtime = RuntimeMetrics("m", loaded=loaded)
    runtime.count_refusal("some_code")
    own = dict.fromkeys(own_gauges(), 1.0)
    families = [
        *REGISTRY.collect(),
        *Dashboard(Snapshot(), DemandLedger(0, 1), lambda: True).collect(),
        *GatewayMetrics(list).registry.collect(),
        *text_string_to_metric_families(runtime.render(own, {"imports": 1.0}).decode()),
    ]
    return {
        f"{family.name}_total" if family.type == "counter" else family.name: family.type
        for family in families
        if family.name.startswith("stoker_")
    }


def own_gauges() -> list[str]:
    """The gauges that the runtime's server adds to those of its `metrics` module."""
    tree = ast.parse((ROOT / "runtime/stoker_runtime/server/app.py").read_text())
    [own] = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "own"
    ]
    assert isinstance(own, ast.Dict)
    return [ast.literal_eval(key) for key in own.keys if key]


def test_metrics_page_and_processes_agree() -> None:
    rows = re.findall(r"^\| `(stoker_[a-z0-9_]+)` \| (\w+) \|", METRICS_PAGE, re.MULTILINE)
    assert dict(rows) == exported()
    assert len(rows) == len(set(rows))


def expressions() -> list[str]:
    """What the chart's dashboard and alerts ask Prometheus for."""
    files = ROOT / "charts/stoker/files"
    dashboard = json.loads((files / "dashboard.json").read_text())
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"][1:]]
    return [*panels, *variables, *(rule["expr"] for rule in alerts())]


def alerts() -> list[dict[str, Any]]:
    """The rules of the chart's alerts."""
    groups = yaml.safe_load((ROOT / "charts/stoker/files/alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_dashboard_and_alerts_ask_for_what_is_exported() -> None:
    known = exported()
    histograms = {name for name, kind in known.items() if kind == "histogram"}
    series = known.keys() - histograms
    series |= {f"{name}_{part}" for name in histograms for part in ("bucket", "sum", "count")}
    asked = set(re.findall(r"\bstoker_[a-z0-9_]+", "\n".join(expressions())))
    assert asked - series == set()
    figures = {"operator_replicas", "operator_pool_pods", "operator_requests", "gpu_seconds_total"}
    assert {f"stoker_{name}" for name in figures} | {"stoker_cold_start_seconds_sum"} <= asked


def test_states_that_they_filter_by_are_documented() -> None:
    asked = re.findall(r"(stoker_\w+)\{state=\"(\w+)\"\}", "\n".join(expressions()))
    assert len(asked) >= 4
    for metric, state in asked:
        [row] = [line for line in METRICS_PAGE.splitlines() if line.startswith(f"| `{metric}`")]
        assert re.search(rf"\b{state}\b", row), metric


def test_every_alert_says_what_and_the_page_for_operators_what_to_do() -> None:
    page = (ROOT / "docs/operating.md").read_text()
    for rule in alerts():
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert f"`{rule['alert']}`" in page
    named_there = set(re.findall(r"`(Stoker[A-Z]\w+)`", page))
    assert named_there == {rule["alert"] for rule in alerts()}


def test_reasons_and_values_that_the_page_for_operators_names_exist() -> None:
    page = (ROOT / "docs/operating.md").read_text()
    words = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)+)`", page))
    kinds = {"WarmPool", "LLMDeployment"}
    alarms = {rule["alert"] for rule in alerts()}
    assert words - {*Reason, *ConditionType} - kinds - alarms == set()
    values = yaml.safe_load((ROOT / "charts/stoker/values.yaml").read_text())
    rooms = "monitoring|gateway|operator|internalKey|log"
    for path in re.findall(rf"\b((?:{rooms})\.[A-Za-z.]+)", page):
        found = values
        for part in path.rstrip(".").split("."):
            if found != {}:
                assert part in found, path
                found = found[part]


@pytest.mark.parametrize("path", MANUALS, ids=named)
def test_commands_of_the_manual_exist(path: Path) -> None:
    code = "\n".join(PARAGRAPHS.findall(path.read_text()))
    made = set(re.findall(r"\bmake ([a-z][a-z0-9-]*)", code))
    assert made - TARGETS - {"e2e"} == set()
    ours = set(re.findall(r"(?:^|`|\$ )stoker ([a-z]+)\b", code, re.MULTILINE))
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {group.name for group in app.registered_groups if group.name}
    assert ours - known == set()


@pytest.mark.parametrize("path", [*MANUALS, *EXAMPLES], ids=named)
def test_commands_of_the_manual_are_understood(path: Path) -> None:
    """Each with its arguments and options, as the parser takes them; nothing is run."""
    stoker = typer.main.get_command(app)
    code = path.read_text() if path.suffix == ".yaml" else "\n".join(commands(path))
    for words in re.findall(r"(?:^|`|# +)stoker ([a-z][^`\n]* [^`\n]+)", code, re.MULTILINE):
        name, *arguments = shlex.split(words, comments=True)
        assert isinstance(stoker, typer.core.TyperGroup)
        command = stoker.commands[name]
        if "--help" not in arguments:
            assert command.make_context(name, arguments).command is command


def commands(path: Path) -> list[str]:
    """The code of a manual, without placeholders for more of the same and what is optional."""
    return [one for one in PARAGRAPHS.findall(path.read_text()) if not re.search(r"[…\[]", one)]


@pytest.mark.parametrize("path", MANUALS, ids=named)
def test_links_and_paths_of_the_manual_lead_somewhere(path: Path) -> None:
    text = path.read_text()
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", text)
    assert [link for link in links if not (path.parent / link).exists()] == []
    paths = re.findall(
        r"`((?:operator|runtime|tests|charts|crds|images|models|docs)/[^`\s*…<]*)`", text
    )
    assert [name for name in paths if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", MANUALS, ids=named)
def test_tests_that_the_manual_names_exist(path: Path) -> None:
    claims = re.findall(r"`([a-z_/]+/test_[a-z_0-9]+\.py)::(test_[a-z_0-9]+)`", path.read_text())
    lost = [
        f"{file}::{name}"
        for file, name in claims
        if f"def {name}(" not in (ROOT / "tests" / file).read_text()
    ]
    assert lost == []


@pytest.mark.parametrize("path", MANUALS, ids=named)
def test_settings_in_the_manual_exist(path: Path) -> None:
    mentioned = set(re.findall(r"\bSTOKER_[A-Z0-9_]+\b", path.read_text()))
    assert mentioned - known_variables() - HARNESS_VARIABLES == set()


HARNESS_VARIABLES = set(
    re.findall(
        r"\bSTOKER_[A-Z0-9_]+\b",
        "\n".join(
            file.read_text()
            for file in (
                *(ROOT / "tests/e2e").rglob("*.py"),
                *(ROOT / "operator/stoker_cli").glob("*.py"),
            )
        ),
    )
)
"""Variables that the tests' harness and the command line read."""


def known_variables() -> set[str]:
    classes = (pages.OperatorSettings, pages.GatewaySettings, pages.Config)
    return {pages.variable(name) for settings in classes for name in pages.field_docs(settings)}


@pytest.mark.parametrize(
    ("template", "settings"),
    [("operator", pages.OperatorSettings), ("gateway", pages.GatewaySettings)],
)
def test_the_chart_sets_settings_that_exist(template: str, settings: type) -> None:
    text = (ROOT / f"charts/stoker/templates/{template}.yaml").read_text()
    given = set(re.findall(r"\bSTOKER_[A-Z0-9_]+\b", text))
    assert given
    assert given - {pages.variable(name) for name in pages.field_docs(settings)} == set()


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_samples_are_listed_and_begin_with_what_they_show(path: Path) -> None:
    assert f"]({path.name})" in (ROOT / "examples/README.md").read_text()
    assert path.read_text().startswith("# ")
    assert all(manifest["metadata"]["name"] for manifest in yaml.safe_load_all(path.read_text()))


def test_the_readme_asks_for_the_sample_that_it_shows_and_applies() -> None:
    readme = (ROOT / "README.md").read_text()
    sample = yaml.safe_load((ROOT / "examples/tiny-chat.yaml").read_text())
    [shown] = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", readme, re.S)]
    assert shown["metadata"] == sample["metadata"]
    for room, fields in shown["spec"].items():
        assert fields.items() <= sample["spec"][room].items()
    asked = re.findall(r'(?:model=|describe llm |stoker why |stoker chat )"?([\w-]+)', readme)
    assert len(asked) >= 4
    assert set(asked) == {sample["metadata"]["name"]}
