"""`stoker why NAME`: why a deployment or a warm pool has the size and the state that it has.

Knows the command and which kind a name means; what is told is in `account`.
"""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from stoker_api.status import LLMDeploymentStatus
from stoker_cli.account import describe_wait, show_deployment, show_pool
from stoker_cli.option import Form, Output, print_json


def why(
    name: Annotated[str, typer.Argument(help="The LLMDeployment, or the WarmPool.")],
    namespace: Annotated[str | None, typer.Option("--namespace", "-n")] = None,
    output: Output = Form.TEXT,
) -> None:
    """Say why a deployment or pool has its size: decisions, what it waits for, what wakes took."""
    from stoker_cli.deployment import Deployments  # its Kubernetes client is slow to import

    found, now = Deployments(namespace).find(name), time.time()
    is_pool = found.get("kind") == "WarmPool"
    if output == Form.TEXT:
        show = show_pool if is_pool else show_deployment
        return show(Console(), found, now)
    metadata, status = found["metadata"], found.get("status", {})
    told = {"kind": found.get("kind"), "namespace": metadata.get("namespace"), "name": name}
    if not is_pool:
        told["waitsFor"] = describe_wait(LLMDeploymentStatus.model_validate(status), now)
    print_json(told | {"status": status})
