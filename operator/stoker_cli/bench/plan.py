"""What one `stoker bench` does: the options, checked, and the conversations they lead to.

Knows every option and what must not be combined; does not know the terminal or HTTP. Pure.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from random import Random

from stoker_api.duration import parse_duration
from stoker_cli.bench.arrivals import draw_arrivals
from stoker_cli.bench.measure import Goals
from stoker_cli.bench.trace import Row
from stoker_cli.bench.workload import Conversation, Prompts, Workload


@dataclass(frozen=True, slots=True)
class Due:
    """A conversation and when it begins."""

    conversation: Conversation
    at_s: float = 0.0
    """Seconds since the start of the run; of no meaning in a closed loop."""


def limit_requests(conversations: Iterable[Due], num_requests: int) -> Iterator[Due]:
    """As many conversations as make so many requests; the last one may lose turns."""
    left = num_requests
    for due in conversations:
        turns = due.conversation.turns[:left]
        yield replace(due, conversation=replace(due.conversation, turns=turns))
        left -= len(turns)
        if left <= 0:
            return


def limit_time(conversations: Iterable[Due], duration_s: float) -> Iterator[Due]:
    """The conversations of an open loop that begin within so many seconds."""
    for due in conversations:
        if due.at_s >= duration_s:
            return
        yield due


@dataclass(frozen=True, slots=True)
class Plan:
    """The load of one run. Two runs of a plan ask for the same lengths at the same times."""

    workload: Workload
    goals: Goals
    seed: int = 0
    rate: float | None = None
    """Conversations per second, open loop; None: closed loop, unless there is a trace."""
    burstiness: float = 1.0
    concurrency: int | None = None
    num_requests: int | None = None
    duration_s: float | None = None
    trace: tuple[Row, ...] = ()
    speed: float = 1.0
    """How many times faster than recorded a trace is replayed."""

    def __post_init__(self) -> None:
        """Refuse what makes no sense, by name. Raises `ValueError`."""
        if self.trace and self.rate is not None:
            raise ValueError("--trace has its own arrivals, so --rate can't be given")
        for name, value in {
            "--rate": self.rate,
            "--concurrency": self.concurrency,
            "--requests": self.num_requests,
            "--duration": self.duration_s,
            "--speed": self.speed,
        }.items():
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} must be above 0, was {value}")
        if not 0 <= self.burstiness < float("inf"):
            raise ValueError(f"--burstiness must be at least 0, was {self.burstiness}")

    @property
    def is_open(self) -> bool:
        """Whether requests come at their times, answered or not."""
        return self.rate is not None or bool(self.trace)

    @property
    def expected_requests(self) -> int | None:
        """How many requests there will be, where that is known before."""
        if self.num_requests is None and self.trace and self.duration_s is None:
            return len(self.trace)
        return self.num_requests

    def schedule(self, prompts: Prompts) -> Iterator[Due]:
        """The conversations of a run, within the plan's limits."""
        every = self._all(prompts)
        if self.is_open and self.duration_s is not None:
            every = limit_time(every, self.duration_s)
        return every if self.num_requests is None else limit_requests(every, self.num_requests)

    def _all(self, prompts: Prompts) -> Iterator[Due]:
        if self.trace:
            rows = enumerate(self.trace)
            return (Due(prompts.replay(n, row), row.at_s / self.speed) for n, row in rows)
        if self.rate is None:
            return (Due(prompts.make(n)) for n in itertools.count())
        arrivals = draw_arrivals(self.rate, self.burstiness, Random(f"{self.seed}/arrivals"))
        return (Due(prompts.make(n), at_s) for n, at_s in enumerate(arrivals))


def parse_seconds(text: str) -> float:
    """`2s`, `50ms`, `1h30m` or a bare number of seconds. Raises `ValueError`."""
    text = text.replace(" ", "")
    if re.fullmatch(r"\d+(?:\.\d*)?|\.\d+", text):
        return float(text)
    return parse_duration(text)
