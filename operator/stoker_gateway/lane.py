"""All that one worker knows of one deployment: who waits, where requests run, and what to report.

Binds the hold queue to the routes so that no request is lost or answered twice; pure, instants come
in as numbers. `proxy` moves requests through it, `backends` changes its pods and its target.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_api.wake import estimate_remaining_s
from stoker_gateway import errors
from stoker_gateway.errors import ApiError
from stoker_gateway.queue import Held, HoldQueue
from stoker_gateway.routing import Pod, Routes
from stoker_gateway.target import Target
from stoker_gateway.tokens import TokenCount

RETRY_SHARE = 0.75
"""Part of the wakes that are over when a client is told to come back."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much may wait in one lane."""

    max_queued: int
    max_queued_bytes: int


class Lane:
    """One deployment."""

    def __init__(self, target: Target, bounds: Bounds, now: float) -> None:
        self.target = target
        self.queue = HoldQueue(bounds.max_queued, bounds.max_queued_bytes)
        self.routes = Routes()
        self.running = 0
        self.arrivals = 0
        self.tokens = TokenCount()
        self.active_at = now
        """When a request last came or ended."""

    @property
    def busy(self) -> bool:
        """Whether any request waits or runs."""
        return self.running > 0 or len(self.queue) > 0

    def enter(self, num_bytes: int, now: float) -> Held:
        """A request comes: it runs at once or waits. Raises `ApiError` when it may do neither."""
        self.arrivals += 1
        self.tokens.come(num_bytes)
        self.active_at = now
        held = Held(self.arrivals, num_bytes, now, self.target.hold_s)
        held.cold = self.routes.num_routed == 0
        pod = None if len(self.queue) else self.routes.take(now)
        if pod:
            self._start(held, pod)
            return held
        self._check_may_wait(num_bytes, now)
        self.queue.push(held, now)
        return held

    def _check_may_wait(self, num_bytes: int, now: float) -> None:
        failure = self.refusal
        if failure and not self.routes.num_routed:
            raise errors.unavailable(self.target.served_name, failure)
        if not self.queue.has_room(num_bytes):
            raise errors.queue_full(self.target.served_name, self.retry_after_s(now))

    @property
    def refusal(self) -> str:
        """Why waiting cannot help; empty when it may."""
        if self.target.refusal or not self.routes.failure:
            return self.target.refusal
        reason, message = self.routes.failure
        return f"{message or 'its pods failed'} ({reason})"

    def _start(self, held: Held, pod: Pod) -> None:
        held.pod = pod
        self.running += 1

    def release(self, now: float) -> list[Held]:
        """Hand waiting requests to free slots, oldest first; those that got one."""
        released: list[Held] = []
        while len(self.queue):
            pod = self.routes.take(now)
            held = self.queue.pop(now) if pod else None
            if pod is None or held is None:
                break
            self._start(held, pod)
            released.append(held)
            held.wake()
        return released

    def put_back(self, held: Held, now: float) -> None:
        """The pod did not take it: wait again, at the head."""
        self._stop(held)
        self.queue.put_back(held, now)

    def leave(self, held: Held, now: float) -> None:
        """A request ends, wherever it is: answered, failed, or its client is gone."""
        self.queue.leave(held, now)
        self._stop(held)
        self.active_at = now

    def _stop(self, held: Held) -> None:
        pod, held.pod = held.pod, None
        if pod:
            self.routes.give_back(pod)
            self.running -= 1

    def expire(self, now: float) -> list[Held]:
        """End the waits whose deadline has come."""
        late = self.queue.expire(now)
        for held in late:
            self._end(held, self._timeout(held, now))
        return late

    def fail_waiting(self, error: ApiError, now: float) -> list[Held]:
        """End all waits."""
        everyone = self.queue.clear(now)
        for held in everyone:
            self._end(held, error)
        return everyone

    def fail_hopeless(self, now: float, doom: str = "") -> list[Held]:
        """End all waits if it is certain that no pod will come."""
        why = self.refusal or doom
        if not why or self.routes.num_routed:
            return []
        return self.fail_waiting(errors.unavailable(self.target.served_name, why), now)

    @staticmethod
    def _end(held: Held, error: ApiError) -> None:
        held.error = error
        held.wake()

    def _timeout(self, held: Held, now: float) -> ApiError:
        model, retry_s = self.target.served_name, self.retry_after_s(now)
        if self.routes.num_routed:
            return errors.overloaded(model, held.waited_s, retry_s)
        return errors.not_ready(model, held.waited_s, retry_s, self.cause)

    @property
    def cause(self) -> str:
        """What hinders the wake, as far as it is known."""
        said = [
            f"{reason}: {message}"
            for pod in self.routes
            if pod.failure
            for reason, message in [pod.failure]
        ]
        return " ".join(filter(None, [self.target.cause, *said[:1]]))

    def retry_after_s(self, now: float) -> float:
        """When trying again is worth it: the rest of the wake, or a moment when pods are ready.

        By then three of four wakes that lasted as long as this one were over. It began with the
        oldest of those who wait or, when they have given up, with the pod that still starts.
        """
        if self.routes.num_routed:
            return 1.0
        target = self.target
        elapsed_s = max(self.queue.oldest_wait_s(now), self.routes.oldest_start_s(now))
        return estimate_remaining_s(target.wakes_s, target.cold_start_s, elapsed_s, RETRY_SHARE)

    def idle_s(self, now: float) -> float:
        """Seconds since a request last came or ended; 0 while any waits or runs."""
        return 0.0 if self.busy else max(now - self.active_at, 0.0)
