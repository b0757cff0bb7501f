"""Who gets a disruption budget, and what it promises."""

from __future__ import annotations

from typing import Any

import pytest

from stoker_operator.build.disruption_budget import build_disruption_budget
from support.builders import make_llm
from support.golden import check_golden


def test_golden_disruption_budget() -> None:
    budget = build_disruption_budget(make_llm(scaling={"minReplicas": 3}))
    assert budget is not None
    check_golden("disruption-budget", [budget])


@pytest.mark.parametrize(
    ("spec", "least"),
    [
        ({}, None),
        ({"scaling": {"minReplicas": 0}}, None),
        ({"scaling": {"minReplicas": 1, "maxReplicas": 9}}, None),
        ({"scaling": {"minReplicas": 2}}, 1),
        ({"replicas": 0}, None),
        ({"replicas": 1}, None),
        ({"replicas": 4}, 3),
    ],
)
def test_all_promised_replicas_but_one_stay(spec: dict[str, Any], least: int | None) -> None:
    budget = build_disruption_budget(make_llm(**spec))
    assert (budget and budget["spec"]["minAvailable"]) == least
