"""How long this engine's steps take, learned from its own: seconds = step + token·n + seq·rows.

Knows the tokens, decode rows and seconds of each step; does not know a clock, tensors or requests.
Kept by `account`; the operator sizes deployments by what it says. Pure Python: both sums and fit
cost microseconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from stoker_runtime.wire import Speed

FORGOTTEN = 1 / 256
"""Share of what is known of a kind of step that each new one of it replaces."""
CLIP = 3.0
"""A step that took this many times as long as predicted, or as short, counts as that long."""
FIT_EVERY = 16
"""Steps between two fits."""
SWEEPS = 48
"""Rounds of the descent; each fit goes on from the last one."""
RIDGE = 0.01
"""Pull of what a row costs beyond a token towards 0, as a share of what was seen of rows."""
UNSEEN = 0.1
"""All tokens of the widest step cost at least this share of an empty one: what was too small to
be seen may not be taken for nothing, for it is multiplied by prompts a hundred times as long."""
ENOUGH_STEPS, ENOUGH_PROMPTS = 64, 8
"""Steps, and steps with more than decode rows among them, before anything is said."""
WORST_ERROR = 0.5
"""Mean relative error of its predictions above which nothing is said."""


@dataclass(slots=True)
class _Sums:
    """Decayed normal equations of one kind of step: products of (1, tokens, rows), and with y."""

    products: list[float] = field(default_factory=lambda: [0.0] * 9)
    targets: list[float] = field(default_factory=lambda: [0.0] * 3)

    def add(self, features: tuple[float, float, float], seconds: float, weight: float) -> None:
        """One more step."""
        kept, products, targets = 1 - FORGOTTEN, self.products, self.targets
        for i, one in enumerate(features):
            scaled = weight * one
            targets[i] = kept * targets[i] + scaled * seconds
            for j, other in enumerate(features):
                products[3 * i + j] = kept * products[3 * i + j] + scaled * other


class Pace:
    """A robust running fit, by least squares of the relative error with no negative part.

    The weight of a step is its share of the shortest one's time, squared; not plain seconds, or a
    machine that slows down would be held back by the heavy past. Steps with prompts and those of
    decode rows alone are remembered apart, so that an hour of one
    kind does not make the other forgotten. `seq` is what a decode row costs beyond a token: both go
    through the same weights, so that without evidence a row costs what a token of a prompt does.
    """

    def __init__(self) -> None:
        self._decodes, self._prompts = _Sums(), _Sums()
        self._parts = [0.0, 0.0, 0.0]
        self._error = 0.0
        self._widest = 1
        self._briefest_s = math.inf
        self._num_steps = self._num_prompts = 0

    def note(self, num_tokens: int, num_rows: int, seconds: float) -> None:
        """A step of `num_tokens` in all, `num_rows` of them decoded, took so long."""
        if seconds <= 0:
            return
        features = (1.0, float(num_tokens), float(num_rows))
        self._briefest_s = min(self._briefest_s, seconds)
        unit_s = self._predict((1.0, 1.0, 1.0)) or self._briefest_s
        predicted = self._predict(features) or seconds
        self._error += FORGOTTEN * (
            abs(seconds - predicted) / max(seconds, predicted) - self._error
        )
        clipped = min(max(seconds, predicted / CLIP), predicted * CLIP)
        has_prompt = num_tokens > num_rows
        sums = self._prompts if has_prompt else self._decodes
        sums.add(features, clipped, (unit_s / predicted) ** 2)
        self._widest = max(self._widest, num_tokens)
        self._num_steps += 1
        self._num_prompts += has_prompt
        if self._num_steps % FIT_EVERY == 0:
            self._fit()

    def speed(self, chunk_tokens: int) -> Speed | None:
        """What steps cost; None while that is not known well enough. At most `chunk_tokens` fit
        into one."""
        known = self._num_steps >= ENOUGH_STEPS and self._num_prompts >= ENOUGH_PROMPTS
        if not known or self._error > WORST_ERROR:
            return None
        step_s, token_s, extra_s = self._parts
        token_s = max(token_s, UNSEEN * step_s / self._widest)
        return Speed(step_s, token_s, token_s + extra_s, chunk_tokens) if token_s else None

    def _predict(self, features: tuple[float, float, float]) -> float:
        return sum(part * one for part, one in zip(self._parts, features, strict=True))

    def _fit(self) -> None:
        """Coordinate descent on the non-negative least squares of both kinds together."""
        products = [
            a + b for a, b in zip(self._decodes.products, self._prompts.products, strict=True)
        ]
        targets = [a + b for a, b in zip(self._decodes.targets, self._prompts.targets, strict=True)]
        products[8] *= 1 + RIDGE
        parts = self._parts
        for _ in range(SWEEPS):
            for i in range(3):
                own = products[3 * i + i]
                others = sum(products[3 * i + j] * parts[j] for j in range(3) if j != i)
                parts[i] = max(0.0, (targets[i] - others) / own) if own else 0.0
