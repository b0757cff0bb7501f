"""How long a wake will still take, by what earlier ones took: the rule that all processes share.

Knows totals; pure. The operator keeps them in `status.coldStarts`; gateways make `Retry-After` of
them, `stoker why` tells of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from stoker_api.quantile import pick_quantile
from stoker_api.status import LLMDeploymentStatus

PATHS = ("fresh", "warm", "resident")
"""From the slowest to the quickest."""


def order_totals(status: LLMDeploymentStatus) -> tuple[tuple[float, ...], ...]:
    """Seconds that wakes took: those of the path of the last one, then those of slower paths."""
    totals = {record.path: tuple(record.totals) for record in status.cold_starts or ()}
    last = status.last_cold_start
    slowest_first = PATHS[: PATHS.index(last.path) + 1] if last and last.path in PATHS else PATHS
    measured = tuple(totals[path] for path in reversed(slowest_first) if totals.get(path))
    return measured or (((last.total,),) if last else ())


def estimate_remaining_s(
    totals: Sequence[Sequence[float]], believed_s: float, elapsed_s: float, share: float = 0.5
) -> float:
    """Seconds that a wake in progress will still take: a quantile of those that took longer.

    Example: of wakes of 10, 20 and 30 s that one is 15 s old, half of those that lasted so long
    were over at 25 s: 10 s more. A wake that outlasts a path was another one: the next slower
    path counts. Past all that was measured, or believed before that, the rest is taken as half of
    what has passed, so that clients ask less often the longer it takes.
    """
    for path in totals:
        longer = [total for total in path if total > elapsed_s]
        if longer:
            return pick_quantile(longer, share) - elapsed_s
    if not totals and elapsed_s < believed_s:
        return believed_s - elapsed_s
    return elapsed_s / 2
