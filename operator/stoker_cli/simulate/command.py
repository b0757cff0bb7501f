"""`stoker simulate TRACE|NAME`: what the autoscaler would have done, and what other settings would.

Knows the options; what is told is in `account`, imported only when it runs: the rules take half a
second to import, which other commands need not wait for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stoker_cli.bench.options import time_option
from stoker_cli.option import Form, Output, check_order, check_positive, check_writable

if TYPE_CHECKING:
    from stoker_cli.simulate.subject import Subject

FILES = (".csv", ".gz", ".json", ".jsonl")


def _count(least: int, text: str, most: int | None = None) -> Any:
    return typer.Option(min=least, max=most, help=text)


def _option(text: str) -> Any:
    return typer.Option(help=text)


def simulate(
    name: Annotated[
        str, typer.Argument(help="A trace (docs/bench.md), or an LLMDeployment: its last day.")
    ],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
    idle_timeout: Annotated[float | None, time_option("As `idleTimeout`: 5m.")] = None,
    min_replicas: Annotated[int | None, _count(0, "As `minReplicas`.")] = None,
    max_replicas: Annotated[int | None, _count(1, "As `maxReplicas`.")] = None,
    queue_depth: Annotated[int | None, _count(1, "As `targetQueueDepth`.")] = None,
    slots: Annotated[int | None, _count(1, "As `maxNumSeqs`.")] = None,
    cold_start: Annotated[float | None, time_option("What a wake takes.")] = None,
    gpus: Annotated[int | None, _count(0, "GPUs of one replica.")] = None,
    price: Annotated[float | None, _option("Of a GPU hour; on CPUs of a replica hour.")] = None,
    goal: Annotated[float, time_option("To the first token.")] = 2.0,
    attain: Annotated[float, _count(0, "Percent that are to meet it.", 100)] = 99.0,
    prefill: Annotated[float | None, _option("Prompt tokens a second; else as measured.")] = None,
    step: Annotated[float | None, _option("Milliseconds of a step; else as measured.")] = None,
    calibrated: Annotated[bool | None, _option("Whether the operator knows these two.")] = None,
    compare: Annotated[bool, _option("Also what other settings would do.")] = True,
    html: Annotated[Path | None, _option("Write table and timeline as a page here.")] = None,
    operator: Annotated[str, _option("Address of the operator's metrics port.")] = "",
    operator_namespace: Annotated[str, _option("Where the operator runs.")] = "stoker-system",
    output: Output = Form.TEXT,
) -> None:
    """Replay a trace, or a deployment's last day, under the operator's scaling rules."""
    from stoker_cli.simulate.account import Wish, tell
    from stoker_cli.simulate.advice import Goal
    from stoker_cli.simulate.subject import state_replica as state

    check_positive(idle_timeout=idle_timeout, cold_start=cold_start)
    check_positive(goal=goal, prefill=prefill, step=step, price=price)
    check_order("--min-replicas", min_replicas, "--max-replicas", max_replicas)
    check_writable("--html", html)
    is_file = Path(name).exists() or name.endswith(FILES)
    place = (namespace, operator, operator_namespace)
    subject = _from_file(Path(name)) if is_file else _from_cluster(name, *place)
    given = {
        "idle_timeout_s": idle_timeout,
        "min_replicas": min_replicas,
        "max_replicas": max_replicas,
        "target_queue_depth": queue_depth,
        "slots": slots,
        "cold_start_s": cold_start,
    }
    subject = subject.changed({key: value for key, value in given.items() if value is not None})
    knows = subject.calibrated if calibrated is None else calibrated
    model = state(subject.policy.model, prefill, step, goal)
    wish = Wish(model, knows, compare, Goal(goal, attain / 100), price, html, output)
    tell(wish, subject, subject.gpus if gpus is None else gpus)


def _from_file(path: Path) -> Subject:
    from stoker_cli.bench.trace import read_trace
    from stoker_cli.simulate.subject import Subject

    try:
        return Subject(path.name, read_trace(path))
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error


def _from_cluster(name: str, namespace: str | None, address: str, where: str) -> Subject:
    from stoker_cli.deployment import Deployments  # its Kubernetes client is slow to import
    from stoker_cli.recall import fetch_arrivals
    from stoker_cli.simulate.subject import read_subject

    deployments = Deployments(namespace)
    manifest = deployments.fetch(name)
    told = fetch_arrivals(f"{deployments.namespace}/{name}", where, address)
    try:
        return read_subject(manifest, told)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
