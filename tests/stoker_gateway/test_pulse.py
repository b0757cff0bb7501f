"""Signs of life: of each worker its own, seen by another process."""

from __future__ import annotations

import os

from stoker_gateway.pulse import Pulses


def test_each_worker_has_its_own() -> None:
    pulses = Pulses(3)
    pulses.beat(1)
    assert pulses.silent_s(1) < min(pulses.silent_s(0), pulses.silent_s(2))


def test_a_child_is_seen_by_its_parent() -> None:
    pulses = Pulses(1)
    silent_s = pulses.silent_s(0)
    child = os.fork()
    if child == 0:
        pulses.beat(0)
        os._exit(0)
    os.waitpid(child, 0)
    assert pulses.silent_s(0) < silent_s
