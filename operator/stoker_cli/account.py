"""The account of one object for people: what was decided and when, what it waits for, what it cost.

Knows how to say a status in words; does not know the rules that made it, nor where it was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stoker_api.conditions import Condition, ConditionType, Phase
from stoker_api.status import LLMDeploymentStatus, ScalingChange, WarmPoolStatus
from stoker_api.wake import estimate_remaining_s, order_totals
from stoker_cli.timeline import draw_timeline

NOTHING = "nothing"


def show_deployment(console: Console, deployment: Mapping[str, Any], now: float) -> None:
    """Print the account of one LLMDeployment."""
    status = LLMDeploymentStatus.model_validate(deployment.get("status", {}))
    console.print(f"[bold]{escape(deployment['metadata']['name'])}[/] is {status.phase or 'new'}")
    if scaling := status.scaling:
        say(console, f"{scaling.desired} wanted, {status.ready_replicas} ready: {scaling.message}")
        say(console, f"waits for: {describe_wait(status, now)}")
        inputs = scaling.inputs.model_dump(by_alias=True, exclude_none=True)
        console.print(_rows(f"decision: {scaling.reason}", (), inputs.items()))
        if scaling.changes:
            console.print(_changes(scaling.changes, now))
    console.print(_conditions(status.conditions))
    if status.cold_starts:
        wakes = ((w.path, w.count, f"{w.median:.2f}", f"{w.p90:.2f}") for w in status.cold_starts)
        console.print(_rows("wakes", ("path", "wakes", "half within s", "90 % within s"), wakes))
    if speed := status.speed:
        figures = speed.model_dump(by_alias=True)
        console.print(_rows("speed of a replica, as measured", (), figures.items()))
    if cold := status.last_cold_start:
        phases = cold.phases.model_dump(by_alias=True, exclude_none=True)
        console.print(draw_timeline(phases, cold.path, cold.total))


def show_pool(console: Console, pool: Mapping[str, Any], now: float) -> None:
    """Print the account of one WarmPool."""
    status = WarmPoolStatus.model_validate(pool.get("status", {}))
    ready = _find(status.conditions, ConditionType.READY)
    name = escape(pool["metadata"]["name"])
    console.print(f"[bold]{name}[/] is {ready.reason if ready else 'new'}")
    if sizing := status.sizing:
        say(console, f"{sizing.desired} standbys wanted: {sizing.message}")
        said = {"desired", "reason", "message"}
        figures = sizing.model_dump(by_alias=True, exclude_none=True, exclude=said)
        counts = {key: getattr(status, key) for key in ("standby", "starting", "adopted")}
        console.print(_rows(f"decision: {sizing.reason}", (), (counts | figures).items()))
    console.print(_conditions(status.conditions))


def say(console: Console, text: str) -> None:
    """Print words that are not markup, however long."""
    console.print(text, markup=False, soft_wrap=True)


def describe_wait(status: LLMDeploymentStatus, now: float) -> str:
    """What has to happen next before all is as wanted, and how long that will take."""
    if status.phase == Phase.FAILED:
        return _message(status.conditions, ConditionType.READY)
    placed = _find(status.conditions, ConditionType.SCHEDULED)
    if placed is not None and placed.status != "True":
        return f"a node. {placed.message}"
    if status.phase == Phase.WAKING:
        return f"the first token of the first replica, {_rest_of_wake(status, now)}"
    progressing = _find(status.conditions, ConditionType.PROGRESSING)
    if progressing is not None and progressing.status == "True":
        return progressing.message
    return NOTHING


def _rest_of_wake(status: LLMDeploymentStatus, now: float) -> str:
    scaling = status.scaling
    changes = scaling.changes if scaling else []
    began_at = next((_unix(c.at) for c in reversed(changes) if not c.from_replicas), now)
    elapsed_s = max(0.0, now - began_at)
    believed_s = (scaling and scaling.inputs.cold_start_seconds) or 0.0
    rest_s = estimate_remaining_s(order_totals(status), believed_s, elapsed_s)
    return f"begun {describe_age(elapsed_s)} ago, by earlier wakes about {rest_s:.1f} s more"


def describe_age(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `5 min`, `3 h`, `2 d`."""
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86400:.0f} d"


def _changes(changes: Sequence[ScalingChange], now: float) -> Table:
    heads = ("ago", "replicas", "reason", "message")
    rows = (
        (
            describe_age(max(0.0, now - _unix(change.at))),
            f"{change.from_replicas} → {change.to_replicas}",
            change.reason,
            change.message,
        )
        for change in reversed(changes)
    )
    return _rows("changes, latest first", heads, rows)


def _conditions(conditions: Iterable[Condition]) -> Table:
    rows = ((c.type, c.status, c.reason, c.message) for c in conditions)
    return _rows("conditions", ("type", "status", "reason", "message"), rows)


def _rows(title: str, heads: Sequence[str], rows: Iterable[Iterable[object]]) -> Table:
    table = Table(title=escape(title), title_justify="left", box=None, padding=(0, 1))
    table.show_header = bool(heads)
    for head in heads:
        table.add_column(head)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def _find(conditions: Iterable[Condition], kind: ConditionType) -> Condition | None:
    return next((condition for condition in conditions if condition.type == kind), None)


def _message(conditions: Iterable[Condition], kind: ConditionType) -> str:
    found = _find(conditions, kind)
    return found.message if found is not None else NOTHING


def _unix(instant: str) -> float:
    return datetime.fromisoformat(instant).timestamp() if instant else 0.0
