"""Other settings worth knowing about, and the model that the options give."""

from __future__ import annotations

from stoker_cli.simulate.account import Speed, vary
from stoker_operator.decide.observed import Policy


def test_variations_keep_the_bounds_in_order() -> None:
    for policy in vary(Policy(min_replicas=3, max_replicas=3)).values():
        assert policy.min_replicas <= policy.max_replicas


def test_the_speed_is_put_in_the_operators_words() -> None:
    model = Speed(prefill_tokens_s=1000, step_ms=8, goal_s=1).model
    assert (model.step_s, model.step_per_seq_s, model.wait_goal_s) == (0.008, 0.00025, 1)
