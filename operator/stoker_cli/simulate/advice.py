"""Which one setting to change: the cheapest that reaches the goal, else the one that comes nearest.

Knows outcomes, the goal and prices; does not know how they are shown. What the spec cannot set,
such as the length of a cold start, is not advised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stoker_cli.simulate.run import Outcome

WORTH = 0.03
"""A share of the cost below which a change is not worth making."""
BETTER = 0.001
"""A share of the requests below which one setting answers no better than another."""
GIVEN = "as given"


@dataclass(frozen=True, slots=True)
class Goal:
    """Which share of the requests is to have its first token within how many seconds."""

    wait_s: float
    share: float

    def is_met(self, outcome: Outcome) -> bool:
        """Whether a run kept it, and lost nobody."""
        return outcome.attainment(self.wait_s) >= self.share and not outcome.lost


@dataclass(frozen=True, slots=True)
class Spending:
    """What a replica's time comes to."""

    gpus: int
    price: float | None = None
    """Of a GPU hour; of a replica hour on CPUs."""

    @property
    def factor(self) -> int:
        """Units of one replica."""
        return max(1, self.gpus)

    @property
    def unit(self) -> str:
        """Whose seconds are counted."""
        return "GPU-s" if self.gpus else "replica-s"

    def cost(self, outcome: Outcome) -> float | None:
        """In the currency of the price."""
        total_s = outcome.spent.total * self.factor
        return None if self.price is None else total_s / 3600 * self.price


def advise(outcomes: Mapping[str, Outcome], goal: Goal, spending: Spending) -> str:
    """One sentence for people."""
    given = outcomes[GIVEN]
    others = {
        name: one for name, one in outcomes.items() if not name.startswith((GIVEN, "cold start"))
    }
    aim = f"{100 * goal.share:g} % within {goal.wait_s:g} s"
    if reaching := {name: one for name, one in others.items() if goal.is_met(one)}:
        best = min(reaching, key=lambda name: reaching[name].spent.total)
        if goal.is_met(given) and reaching[best].spent.total > given.spent.total * (1 - WORTH):
            return f"Nothing to change: {aim} are reached, and no other setting here costs less."
        return f"Change {best}: {_compare(others[best], given, goal, spending)}."
    if goal.is_met(given):
        return f"Nothing to change: {aim} are reached, by no other setting here."
    near = {name: (one.attainment(goal.wait_s), -one.spent.total) for name, one in others.items()}
    best = max(near, key=near.__getitem__)
    if near[best][0] < given.attainment(goal.wait_s) + BETTER:
        return f"No setting here reaches {aim} or comes nearer than what was given."
    words = _compare(others[best], given, goal, spending)
    return f"No setting here reaches {aim}; nearest is {best}: {words}."


def _compare(best: Outcome, given: Outcome, goal: Goal, spending: Spending) -> str:
    then, now = (f"{100 * one.attainment(goal.wait_s):.2f} %" for one in (best, given))
    met = f"still {now}" if then == now else f"{then} instead of {now}"
    total_s = given.spent.total
    change = round(100 * (best.spent.total / total_s - 1)) if total_s else 0
    time = f"{abs(change)} % {'more' if change > 0 else 'less'} {spending.unit}"
    costs = spending.cost(best), spending.cost(given)
    money = "" if None in costs else f" ({costs[0]:.2f} instead of {costs[1]:.2f})"
    return f"{met}, for {time}{money}"
