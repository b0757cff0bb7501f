"""`stoker why NAME`: why a deployment or a warm pool has the size and the state that it has.

Knows the command and which kind a name means; what is told is in `account`.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from stoker_cli.account import show_deployment, show_pool


def why(
    name: Annotated[str, typer.Argument(help="The LLMDeployment, or the WarmPool.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
) -> None:
    """Say why a deployment or pool has its size: decisions, what it waits for, what wakes took."""
    from stoker_cli.deployment import Deployments  # its Kubernetes client is slow to import

    found = Deployments(namespace).find(name)
    show = show_pool if found.get("kind") == "WarmPool" else show_deployment
    show(Console(), found, time.time())
