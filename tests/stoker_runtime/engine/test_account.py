"""Counters and waiting times; the clock is a number."""

from __future__ import annotations

import pytest

from stoker_runtime.engine.account import Account
from stoker_runtime.schedule.step import Chunk, Step
from stoker_runtime.wire import STEP_TOKENS_BOUNDS
from support.hash_model import HashModel, make_scheduler, make_sequence


def test_waiting_and_prefill_are_told_apart_with_the_first_token() -> None:
    account, model = Account(), HashModel(make_scheduler(max_num_seqs=1))
    for id, now in (("a", 10.0), ("b", 11.0)):
        model.scheduler.add(make_sequence(id, 12, max_tokens=2))
        account.note_arrival(id, now)
    times = {}
    now = 12.0
    while model.scheduler.has_work:
        step = model.scheduler.schedule()
        assert step is not None
        account.note_step(step, now)
        now += 1.0
        for seq in model.scheduler.commit(step, model.run(step)):
            times[seq.id, len(seq.output_ids)] = account.note_token(seq, now)
    assert times == {("a", 1): (2, 2), ("a", 2): (0, 0), ("b", 1): (4, 2), ("b", 2): (0, 0)}


def test_counts_steps_by_their_tokens() -> None:
    account, model = Account(), HashModel(make_scheduler(max_batched_tokens=20))
    model.scheduler.add(make_sequence("a", 30, max_tokens=3))
    account.note_arrival("a", 0.0)
    while (step := model.advance()) is not None:
        account.note_step(step, 0.0)
    stats = account.report(model.scheduler)
    assert (stats.steps, stats.step_tokens_sum) == (4, 32)
    counts = dict(zip((*STEP_TOKENS_BOUNDS, 0), stats.step_tokens, strict=True))
    assert {bound: count for bound, count in counts.items() if count} == {1: 2, 16: 1, 32: 1}


def test_counts_ends_by_reason() -> None:
    account = Account()
    for id in "abc":
        account.note_arrival(id, 0.0)
    for id, reason in (("a", "stop"), ("b", "abort"), ("c", "stop")):
        account.note_end(id, reason)
    account.note_refusal()
    stats = account.report(make_scheduler())
    assert stats.finished == {"stop": 2, "abort": 1, "error": 1}
    assert account.num_open == 0


def test_a_step_that_waits_for_the_one_before_counts_from_its_end() -> None:
    """Steps are handed over while earlier ones run: each takes 1 s of the machine all the same."""
    account = Account()
    steps = [Step((Chunk("a", 0, tuple(range(n)), (0,), True),)) for n in [40] * 20 + [1] * 80]
    account.note_step(steps[0], 0.0)
    for number, step in enumerate(steps[1:], 1):
        account.note_step(step, number - 0.5)
        account.note_computed(float(number))
    account.note_computed(float(len(steps)))
    speed = account.report(make_scheduler(caching=True)).speed
    assert speed is not None
    assert speed.step_s + speed.token_s == pytest.approx(1.0, rel=0.1)
