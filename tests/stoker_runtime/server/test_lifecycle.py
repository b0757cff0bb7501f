"""Where the pod stands, and what that means for probes and requests."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stoker_runtime.server.lifecycle import Lifecycle, Patience, PodPhase
from stoker_runtime.wire import Failed, Heartbeat, Loaded, Phase, Speed, Stats

LOADED = Loaded(8, 512, 64, 16, 320, (2,))


class Watched(Lifecycle):
    """Remembers every phase it told of."""

    def __init__(self, log: Path | None = None) -> None:
        super().__init__(100.0, lambda: "ended with exit code 1", log)
        self.told: list[PodPhase] = []
        self.changed = lambda: self.told.append(self.phase)


def ready() -> Watched:
    state = Watched()
    for name, at in (("imports", 101.0), ("weights", 102.5), ("firstToken", 103.0)):
        state.on_phase(Phase(name, at))
    state.on_loaded(LOADED)
    state.text_ready()
    return state


def test_a_start_goes_through_its_phases() -> None:
    state = ready()
    assert state.told == ["Loading", "Loading", "Loading", "Ready"]
    assert state.slots == 8
    assert state.phase_seconds == {"imports": 1.0, "weights": 1.5, "firstToken": 0.5}
    assert state.refuse_work() is None


@pytest.mark.parametrize("engine_first", [True, False])
def test_ready_needs_the_engine_and_the_tokenizer(engine_first: bool) -> None:
    state = Watched()
    steps = [lambda: state.on_loaded(LOADED), state.text_ready]
    first, second = steps if engine_first else reversed(steps)
    first()
    assert state.phase == "Starting"
    second()
    assert state.phase == "Ready"


def test_a_failure_stays_and_is_healthy(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    state = Watched(log)
    state.on_failed(Failed("CheckpointBroken", "fix it"))
    state.on_failed(Failed("OutOfMemory", "later"))
    state.on_lost()
    state.on_loaded(LOADED)
    state.text_ready()
    assert (state.phase, state.reason, state.message) == ("Failed", "CheckpointBroken", "fix it")
    assert state.told == ["Failed"]
    assert state.healthy
    assert log.read_text() == "CheckpointBroken: fix it"
    refused = state.refuse_work()
    assert refused is not None
    assert refused.headers["retry-after"] == "30"


def test_a_termination_log_that_cant_be_written_is_no_fault(tmp_path: Path) -> None:
    state = Watched(tmp_path / "missing" / "log")
    state.on_failed(Failed("CheckpointBroken", "fix it"))
    assert state.phase == "Failed"


@pytest.mark.parametrize("start", [Watched, ready])
def test_a_lost_engine_asks_for_a_restart(start: type[Watched]) -> None:
    state = start()
    state.on_lost()
    assert not state.healthy
    assert state.reason == "EngineCrashed"
    assert "exit code 1" in state.message


def test_an_engine_that_ends_while_draining_is_no_crash() -> None:
    state = ready()
    state.drain()
    state.on_lost()
    assert (state.phase, state.healthy) == ("Draining", True)


def test_draining_is_told_once_and_never_ends() -> None:
    state = ready()
    state.drain()
    state.drain()
    state.on_loaded(LOADED)
    assert state.told[-2:] == ["Ready", "Draining"]
    refused = state.refuse_work()
    assert refused is not None
    assert refused.headers["x-stoker-refused"] == "draining"


def test_an_engine_that_fails_after_it_served_is_lost() -> None:
    state, lost = ready(), []
    state.lost = lambda: lost.append(True)
    state.on_failed(Failed("EngineCrashed", "a step failed in an unknown way"))
    state.on_lost()
    assert not state.healthy
    assert lost == [True]
    state.begin_load()
    assert state.phase == "Failed"


def test_a_silent_engine_is_unhealthy_only_when_it_has_to_speak(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loading, running, waiting = Watched(), ready(), Watched()
    assert loading.heartbeat_age_s == 0
    loading.on_heartbeat(Heartbeat(0.0))
    waiting.on_settled()  # neither of these two has beaten yet
    later = time.monotonic() + Patience().silence_s + 1
    monkeypatch.setattr("stoker_runtime.server.lifecycle.time.monotonic", lambda: later)
    assert loading.healthy
    assert not running.healthy
    assert "silent for 31 s" in waiting.trouble
    running.on_heartbeat(Heartbeat(0.0))
    assert running.healthy


def test_a_step_that_never_ends_is_unhealthy_though_the_engine_beats() -> None:
    state = ready()
    state.on_heartbeat(Heartbeat(0.0, 599.0))
    assert state.healthy
    state.on_heartbeat(Heartbeat(0.0, 601.0))
    assert "one step of the engine has taken 601 s" in state.trouble


@pytest.mark.parametrize("failed", [False, True])
def test_a_standby_takes_models_in_and_out(failed: bool) -> None:
    state = Watched()
    state.on_settled()
    assert state.phase == "Standby"
    for _ in range(2):
        state.begin_load()
        began_at = state.ends["container"]
        if not failed:
            state.on_phase(Phase("weights", began_at + 2.0))
            state.on_loaded(LOADED)
            assert state.phase == "Loading"
            state.text_ready()
            assert (state.phase, state.phase_seconds) == ("Ready", {"weights": 2.0})
            state.drain()
        state.stand_by()
        refused = state.refuse_work()
        assert refused is not None
        assert refused.headers["x-stoker-refused"] == "loading"
        assert (state.phase, state.slots) == ("Standby", 0)


def test_one_who_leaves_never_comes_back() -> None:
    state = ready()
    state.leave()
    for come_back in (state.begin_load, state.fall_asleep, state.stand_by, state.text_ready):
        come_back()
        assert state.phase == "Draining"


def test_a_sleeper_refuses_before_any_work() -> None:
    state = ready()
    state.drain()
    state.fall_asleep()
    refused = state.refuse_work()
    assert refused is not None
    assert (refused.headers["x-stoker-refused"], state.slots) == ("loading", 0)


def test_what_the_engine_measured_is_announced_with_its_heartbeat() -> None:
    state = ready()
    state.on_heartbeat(Heartbeat(0.0))
    told = len(state.told)
    state.on_stats(Stats(1, 0, 2, 64, 0, 30, 9, steps=70, speed=Speed(0.01, 1e-4, 3e-4, 512)))
    assert len(state.told) == told
    state.on_heartbeat(Heartbeat(0.0))
    state.on_heartbeat(Heartbeat(0.0))
    assert state.told[told:] == ["Ready"]
    state.stand_by()
    assert state.vitals.render() == {}
