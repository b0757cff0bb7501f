"""The one setting to change, by what each came to."""

from __future__ import annotations

import pytest

from stoker_cli.simulate.advice import GIVEN, Goal, Spending, advise
from stoker_cli.simulate.fleet import Spent
from stoker_cli.simulate.run import Outcome

GOAL = Goal(2.0, 0.99)


def outcome(met: int, seconds: float, lost: int = 0) -> Outcome:
    """So many of a hundred within the goal, for so much of a replica's time."""
    waits = [1.0] * met + [30.0] * (100 - met - lost)
    return Outcome(waits, lost, Spent(idle=seconds))


@pytest.mark.parametrize(
    ("given", "others", "words"),
    [
        pytest.param(
            (95, 100.0),
            {"minReplicas 1": (100, 150.0), "idleTimeout 1200s": (99, 112.0)},
            "Change idleTimeout 1200s: 99.00 % instead of 95.00 %, for 12 % more GPU-s.",
            id="the cheapest that reaches it",
        ),
        pytest.param(
            (99, 100.0),
            {"idleTimeout 60s": (99, 80.0), "maxReplicas 20": (100, 100.0)},
            "Change idleTimeout 60s: still 99.00 %, for 20 % less GPU-s.",
            id="as good for less",
        ),
        pytest.param(
            (99, 100.0),
            {"idleTimeout 60s": (98, 80.0), "maxReplicas 20": (99, 99.0)},
            "Nothing to change: 99 % within 2 s are reached, and no other setting here costs less.",
            id="not worth it",
        ),
        pytest.param(
            (99, 100.0),
            {"idleTimeout 60s": (98, 80.0)},
            "Nothing to change: 99 % within 2 s are reached, by no other setting here.",
            id="the only one",
        ),
        pytest.param(
            (40, 100.0),
            {"maxReplicas 20": (70, 150.0), "cold start 6s": (99, 100.0)},
            "No setting here reaches 99 % within 2 s; nearest is maxReplicas 20: 70.00 % "
            "instead of 40.00 %, for 50 % more GPU-s.",
            id="nearest, and nothing that cannot be set",
        ),
        pytest.param(
            (40, 100.0),
            {"maxReplicas 20": (40, 100.0)},
            "No setting here reaches 99 % within 2 s or comes nearer than what was given.",
            id="nothing helps",
        ),
    ],
)
def test_the_one_setting_to_change_is_named(
    given: tuple[int, float], others: dict[str, tuple[int, float]], words: str
) -> None:
    outcomes = {GIVEN: outcome(*given)} | {name: outcome(*one) for name, one in others.items()}
    assert advise(outcomes, GOAL, Spending(1)) == words


def test_a_price_is_told_and_who_loses_requests_reaches_nothing() -> None:
    outcomes = {
        GIVEN: outcome(95, 3600.0),
        "idleTimeout 60s": outcome(99, 1800.0, lost=1),
        "minReplicas 1": outcome(100, 7200.0),
    }
    words = advise(outcomes, GOAL, Spending(2, price=3.0))
    assert words == (
        "Change minReplicas 1: 100.00 % instead of 95.00 %, for 100 % more GPU-s "
        "(12.00 instead of 6.00)."
    )
