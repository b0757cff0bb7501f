"""What Prometheus sees of one worker; names begin with `stoker_gateway_`.

Knows metrics and their labels, whose values are known deployments and our own words only; does not
decide anything. Counters are bumped by `app`, `proxy` and `backends`; gauges are read from lanes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from stoker_gateway.http.request import Request
from stoker_gateway.lane import Lane
from stoker_gateway.queue import Held
from stoker_gateway.relay import Relay

WAITS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300)
FIRST_BYTES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
ADDED_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1)
NOBODY = ""
"""The `deployment` of requests that mean none."""


class Metrics:
    """The registry of one worker."""

    def __init__(self, lanes: Callable[[], Iterable[Lane]]) -> None:
        self.registry = CollectorRegistry()
        by = ["deployment"]
        self.requests = self._counter("requests", "Requests by status code.", [*by, "code"])
        self.retries = self._counter("retries", "Attempts that a pod did not take.", [*by, "cause"])
        self.hangups = self._counter("hangups", "Clients gone while held or running.", [*by, "at"])
        self.announcements = self._counter("announcements", "What pods said.", [*by, "phase"])
        self.relists = self._counter("relists", "Full lists from the API server.", ["kind"])
        self.held = self._histogram("held_seconds", "Time in the queue, if any.", WAITS_S)
        self.cold = self._histogram(
            "cold_start_wait_seconds", "Waits of requests that came while nothing ran.", WAITS_S
        )
        self.first_byte = self._histogram(
            "first_byte_seconds", "From a request's arrival to its first byte.", FIRST_BYTES_S
        )
        self.added = self._histogram(
            "added_seconds", "From arrival to the pod, without the time in the queue.", ADDED_S
        )
        self.registry.register(_Lanes(lanes))

    def _counter(self, name: str, text: str, labels: list[str]) -> Counter:
        return Counter(f"stoker_gateway_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(
            f"stoker_gateway_{name}", text, ["deployment"], registry=self.registry, buckets=buckets
        )

    def ended(self, key: str, code: int) -> None:
        """A request was answered."""
        self.requests.labels(key, str(code)).inc()

    def retried(self, lane: Lane, cause: str) -> None:
        """A pod did not take a request."""
        self.retries.labels(lane.target.key, cause).inc()

    def answered(self, lane: Lane, request: Request, held: Held, relay: Relay) -> None:
        """A pod answered."""
        if not relay.first_byte_at:
            return
        key = lane.target.key
        self.first_byte.labels(key).observe(relay.first_byte_at - request.arrived_at)
        added_s = relay.sent_at - request.arrived_at - held.waited_s
        self.added.labels(key).observe(max(added_s, 0))
        if held.waited_s:
            self.held.labels(key).observe(held.waited_s)
        if held.cold and held.waited_s:
            self.cold.labels(key).observe(held.waited_s)

    def left(self, lane: Lane, held: Held) -> None:
        """A client hung up."""
        self.hangups.labels(lane.target.key, "running" if held.pod else "held").inc()

    def forget(self, lane: Lane) -> None:
        """The deployment is gone, and its series."""
        key = {"deployment": lane.target.key}
        for metric in (self.requests, self.retries, self.hangups, self.announcements):
            metric.remove_by_labels(key)
        for histogram in (self.held, self.cold, self.first_byte, self.added):
            histogram.remove_by_labels(key)

    def render(self) -> bytes:
        """The text format."""
        return generate_latest(self.registry)


class _Lanes(Collector):
    """Gauges that cost nothing until somebody looks."""

    def __init__(self, lanes: Callable[[], Iterable[Lane]]) -> None:
        self._lanes = lanes

    def collect(self) -> Iterator[GaugeMetricFamily]:
        now = time.monotonic()
        rows: dict[str, tuple[str, Callable[[Lane], float]]] = {
            "queued": ("Requests held.", lambda lane: len(lane.queue)),
            "queued_bytes": ("Bytes of held bodies.", lambda lane: lane.queue.num_bytes),
            "running": ("Requests at pods.", lambda lane: lane.running),
            "pods": ("Pods that get requests.", lambda lane: lane.routes.num_routed),
            "oldest_wait_seconds": (
                "Age of the longest-held request.",
                lambda lane: lane.queue.oldest_wait_s(now),
            ),
        }
        for name, (text, value) in rows.items():
            family = GaugeMetricFamily(f"stoker_gateway_{name}", text, labels=["deployment"])
            for lane in self._lanes():
                family.add_metric([lane.target.key], value(lane))
            yield family
