"""`stoker why NAME`: why a deployment has the size and the state that it has.

Knows how to say a status in words; does not know the rules that made it.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stoker_cli.timeline import draw_timeline


def why(
    name: Annotated[str, typer.Argument(help="The LLMDeployment.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
) -> None:
    """Say why a deployment has its size: the decision, its inputs, conditions, last cold start."""
    from stoker_cli.deployment import Deployments  # its Kubernetes client is slow to import

    deployment = Deployments(namespace).fetch(name)
    show(Console(), deployment)


def show(console: Console, deployment: dict[str, Any]) -> None:
    """Print the account of one deployment."""
    status = deployment.get("status", {})
    scaling = status.get("scaling", {})
    console.print(f"[bold]{deployment['metadata']['name']}[/] is {status.get('phase', 'new')}")
    if scaling:
        console.print(f"{scaling.get('desired')} wanted: {scaling.get('message')}", markup=False)
        console.print(_pairs(f"decision: {scaling.get('reason')}", scaling.get("inputs", {})))
    console.print(_conditions(status.get("conditions", [])))
    if cold := status.get("lastColdStart"):
        phases = cold.get("phases", {})
        console.print(draw_timeline(phases, cold.get("path", "?"), cold.get("total", 0.0)))


def _pairs(title: str, pairs: dict[str, Any]) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, padding=(0, 1))
    for key, value in pairs.items():
        table.add_row(escape(key), escape(str(value)))
    return table


def _conditions(conditions: list[dict[str, Any]]) -> Table:
    table = Table(title="conditions", title_justify="left", box=None, padding=(0, 1))
    for column in ("type", "status", "reason", "message"):
        table.add_column(column)
    for condition in conditions:
        keys = ("type", "status", "reason", "message")
        table.add_row(*(escape(condition.get(key, "")) for key in keys))
    return table
