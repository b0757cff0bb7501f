"""One `stoker bench` from its first connection to its last answer: prepare, warm up, measure.

Knows the order of the runs and what precedes them; does not know the terminal. With two servers
they take turns, A B A B, so that what else the machine does falls on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from stoker_cli.bench.client import Client, ServerUnusable, Target
from stoker_cli.bench.drive import Drive
from stoker_cli.bench.measure import Sample, summarize
from stoker_cli.bench.plan import Due, Plan, limit_requests
from stoker_cli.bench.report import Result
from stoker_cli.bench.workload import Calibration, Prompts, fit_calibration

_FEW_WORDS, _MANY_WORDS = 20, 60
"""Lengths of the two prompts that tell tokens per word; short, for models of short context."""


class Watcher:
    """Who wants to know how it goes; this one does not."""

    def begun(self, target: Target, number: int) -> None:
        """A run against a server begins; rounds count from 1."""

    def seen(self, sample: Sample) -> None:
        """A request has ended."""

    def measured(self, result: Result) -> None:
        """A run has ended, or was cut."""


class Session:
    """The runs of one plan against one or two servers."""

    def __init__(
        self, targets: Sequence[Target], plan: Plan, run_id: str, watcher: Watcher | None = None
    ) -> None:
        """`run_id` makes the prompts unique; the same id gives the same prompts."""
        self.results: list[Result] = []
        self.targets = targets
        self.plan = plan
        self.watcher = watcher or Watcher()
        self._run_id = run_id
        self._calibration = Calibration()

    async def run(self, rounds: int = 1, warmup: int = 4) -> None:
        """Measure; cancelled, `results` has what was seen. Raises `ServerUnusable`."""
        async with AsyncExitStack() as stack:
            clients = []
            for target in self.targets:
                client = await stack.enter_async_context(Client(target))
                model = target.model or await client.find_model()
                client.target = replace(target, model=model)
                clients.append(client)
            self._calibration = await self._calibrate(clients[0])
            for client in clients:
                await self._warm_up(client, warmup)
            for number in range(1, rounds + 1):
                for place, client in enumerate(clients):
                    await self._measure(client, number, place)

    async def _calibrate(self, client: Client) -> Calibration:
        """How long prompts must be, from two small ones; one word a token if it won't tell."""
        counts = []
        for num_words in (_FEW_WORDS, _MANY_WORDS):
            [turn] = self._prompts("calibration").probe(num_words).turns
            sample, _ = await client.ask([{"role": "user", "content": turn.text}], turn.max_tokens)
            counts.append((len(turn.text.split()), sample.input_tokens))
        return fit_calibration(*counts) if all(tokens for _, tokens in counts) else Calibration()

    def _prompts(self, part: str) -> Prompts:
        tag = f"{self._run_id}/{part}"
        return Prompts(self.plan.workload, self.plan.seed, tag, self._calibration)

    async def _warm_up(self, client: Client, num_requests: int) -> None:
        """Requests that nobody counts. Raises `ServerUnusable` when all of them fail."""
        if not num_requests:
            return
        samples: list[Sample] = []
        prompts = self._prompts(f"warm-up {client.target.url}")
        dues = (Due(prompts.make(number)) for number in range(num_requests))
        drive = Drive(client, samples.append)
        await drive.closed(limit_requests(dues, num_requests), self.plan.concurrency or 2)
        if not any(sample.is_ok for sample in samples):
            words = f"{client.target.url} answers no request of the warm-up: {samples[0].error}"
            raise ServerUnusable(words)

    async def _measure(self, client: Client, number: int, place: int) -> None:
        """One run. The same URL given twice must not find its own prefixes, hence `place`."""
        samples: list[Sample] = []

        def seen(sample: Sample) -> None:
            samples.append(sample)
            self.watcher.seen(sample)

        self.watcher.begun(client.target, number)
        drive = Drive(client, seen, self.plan.duration_s)
        prompts = self._prompts(f"round {number} of {place}")
        dues = self.plan.schedule(prompts)
        try:
            if self.plan.is_open:
                await drive.open(dues, self.plan.concurrency)
            else:
                await drive.closed(dues, self.plan.concurrency or 1)
        finally:
            self._keep(client.target, number, samples)

    def _keep(self, target: Target, number: int, samples: list[Sample]) -> None:
        if not samples:
            return
        summary = summarize(samples, self.plan.goals)
        result = Result(target.url, target.model, number, summary, tuple(samples))
        self.results.append(result)
        self.watcher.measured(result)
