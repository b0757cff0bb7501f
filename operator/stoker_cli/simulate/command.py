"""`stoker simulate TRACE|NAME`: what the autoscaler would have done, and what other settings would.

Knows the options; what is told is in `account`, imported only when it runs: the rules take half a
second to import, which other commands need not wait for.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stoker_cli.option import check_positive, check_writable

if TYPE_CHECKING:
    from stoker_cli.simulate.subject import Subject

FILES = (".csv", ".gz", ".json", ".jsonl")


def simulate(
    name: Annotated[
        str, typer.Argument(help="A trace file, or the LLMDeployment whose last day is replayed.")
    ],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
    idle_timeout: Annotated[float | None, typer.Option(help="Seconds, as `idleTimeout`.")] = None,
    min_replicas: Annotated[int | None, typer.Option(min=0)] = None,
    max_replicas: Annotated[int | None, typer.Option(min=1)] = None,
    queue_depth: Annotated[int | None, typer.Option(min=1, help="As `targetQueueDepth`.")] = None,
    slots: Annotated[int | None, typer.Option(min=1, help="As `maxNumSeqs`.")] = None,
    cold_start: Annotated[float | None, typer.Option(help="Seconds a wake takes.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="GPUs of one replica.")] = None,
    goal: Annotated[float, typer.Option(help="Seconds to the first token.")] = 2.0,
    prefill: Annotated[
        float | None, typer.Option(help="Prompt tokens a second; else measured, else 16000.")
    ] = None,
    step: Annotated[
        float | None, typer.Option(help="Milliseconds of a decode step; else measured, else 8.")
    ] = None,
    calibrated: Annotated[bool | None, typer.Option(help="If the operator knows it.")] = None,
    compare: Annotated[bool, typer.Option(help="Also what other settings would do.")] = True,
    html: Annotated[Path | None, typer.Option(help="Write the timeline as a page here.")] = None,
    operator: Annotated[str, typer.Option(help="Address of the operator's metrics port.")] = "",
    operator_namespace: Annotated[
        str, typer.Option(help="Where the operator runs.")
    ] = "stoker-system",
) -> None:
    """Replay a trace, or a deployment's last day, under the operator's scaling rules."""
    from stoker_cli.simulate.account import Wish, tell
    from stoker_cli.simulate.subject import state_replica as state

    check_positive(idle_timeout=idle_timeout, cold_start=cold_start)
    check_positive(goal=goal, prefill=prefill, step=step)
    check_writable("--html", html)
    if Path(name).exists() or name.endswith(FILES):
        subject = _from_file(Path(name))
    else:
        subject = _from_cluster(name, namespace, operator, operator_namespace)
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
    tell(Wish(model, knows, compare, html), subject, subject.gpus if gpus is None else gpus)


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
