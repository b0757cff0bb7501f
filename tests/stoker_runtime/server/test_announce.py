"""Announcements reach the gateway: at once, in order, again after a failure, with the key."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stoker_api.demand import Announcement
from stoker_runtime.config import Config
from stoker_runtime.server.announce import Announcer, read_target
from stoker_runtime.server.lifecycle import Lifecycle
from stoker_runtime.wire import Loaded, Phase
from support.fake_engine import Script
from support.runtime_server import RuntimeServer, run_server, wait_until


class Gateway(ThreadingHTTPServer):
    """Takes announcements; answers the first ones as `statuses` say."""

    def __init__(self, statuses: list[int]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.statuses = statuses
        self.heard: list[tuple[float, str, dict[str, Any]]] = []

    @property
    def environ(self) -> dict[str, str]:
        """What the operator writes into the pod."""
        return {
            "STOKER_ANNOUNCE_URL": f"http://127.0.0.1:{self.server_port}/internal/announce",
            "STOKER_TOKEN": "runtime-token",
            "STOKER_POD_NAME": "chat-abc-0",
            "STOKER_NAMESPACE": "team",
            "STOKER_DEPLOYMENT": "chat",
            "STOKER_POD_IP": "10.1.2.3",
        }

    @property
    def phases(self) -> list[str]:
        """The phases heard, repeated ones once."""
        phases = [body["phase"] for _, _, body in self.heard]
        return [p for at, p in enumerate(phases) if at == 0 or phases[at - 1] != p]


class Handler(BaseHTTPRequestHandler):
    """One announcement."""

    server: Gateway

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status = self.server.statuses.pop(0) if self.server.statuses else 204
        if status == 204:
            assert self.path == "/internal/announce"
            self.server.heard.append((time.time(), self.headers["authorization"], body))
        self.send_response(status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet."""


@contextmanager
def listening(*statuses: int) -> Iterator[Gateway]:
    """A gateway on a loopback port."""
    gateway = Gateway(list(statuses))
    thread = threading.Thread(target=gateway.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield gateway
    finally:
        gateway.shutdown()
        thread.join()
        gateway.server_close()


@contextmanager
def serving(
    gateway: Gateway, model: Path | None, log: Path, script: Script
) -> Iterator[RuntimeServer]:
    """A server that announces to `gateway`."""
    with run_server(model, log, script=script, environ=gateway.environ) as server:
        yield server


def test_a_start_and_its_end_are_announced(checkpoint: Path, tmp_path: Path) -> None:
    with listening() as gateway:
        started_at = time.time()
        with serving(gateway, checkpoint, tmp_path / "log", Script(load_s=0.5)) as server:
            wait_until(lambda: "Ready" in gateway.phases)
            server.terminate()
            assert server.process.wait(5) == 0
        assert gateway.phases in (
            ["Starting", "Loading", "Ready", "Draining"],
            ["Starting", "Ready", "Draining"],  # what was not heard yet gives way to what is newer
        )
        _, key, ready = next(entry for entry in gateway.heard if entry[2]["phase"] == "Ready")
        assert key == "Bearer runtime-token"
        read = Announcement.model_validate(ready)
        assert (read.key, read.pod, read.slots) == ("team/chat", "chat-abc-0", 4)
        assert read.address == f"10.1.2.3:{server.port}"
        assert list(read.phases) == ["container", "imports", "weights", "firstToken"]
        assert read.room is not None
        assert read.room.max_model_len > 0
        instants = list(read.phases.values())
        assert instants == sorted(instants)
        assert -0.02 < read.phases["container"] - started_at < 0.5  # known to 10 ms


def test_an_announcement_is_repeated_until_it_is_taken(checkpoint: Path, tmp_path: Path) -> None:
    with listening(500, 503, 404, 401) as gateway:
        with serving(gateway, checkpoint, tmp_path / "log", Script()):
            wait_until(lambda: "Ready" in gateway.phases)
        assert not gateway.statuses


def test_a_gateway_that_comes_later_hears_the_newest_state(
    checkpoint: Path, tmp_path: Path
) -> None:
    with listening() as gateway:
        environ = gateway.environ
        port = gateway.server_port
    with run_server(checkpoint, tmp_path / "log", script=Script(), environ=environ) as server:
        server.wait_for("/ready", 200)
        late = Gateway.__new__(Gateway)
        ThreadingHTTPServer.__init__(late, ("127.0.0.1", port), Handler)
        late.statuses, late.heard = [], []
        thread = threading.Thread(target=late.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        wait_until(lambda: late.heard)
        late.shutdown()
        thread.join()
        late.server_close()
        assert late.phases == ["Ready"]


@pytest.mark.parametrize("script", [Script(fail="OutOfMemory"), Script(step_s=0.01, crash_after=0)])
def test_a_failure_is_announced_with_its_reason(
    checkpoint: Path, tmp_path: Path, script: Script
) -> None:
    with (
        listening() as gateway,
        serving(gateway, checkpoint, tmp_path / "log", script) as server,
    ):
        if not script.fail:
            server.wait_for("/ready", 200)
            body = {"model": "tiny", "prompt": "x"}
            assert server.request("POST", "/v1/completions", body).status == 500
        wait_until(lambda: "Failed" in gateway.phases)
        failed = gateway.heard[-1][2]
        assert failed["reason"] == (script.fail or "EngineCrashed")
        assert failed["message"]


async def test_a_phase_is_told_at_once_and_its_details_together() -> None:
    life = Lifecycle(1.0, lambda: "ended")
    with listening() as gateway:
        config = Config(announce_url=gateway.environ["STOKER_ANNOUNCE_URL"], model=Path("m"))
        announcer = Announcer(read_target(config), life)
        life.changed = announcer.notify
        task = asyncio.create_task(announcer.run())
        for name in ("imports", "weights", "firstToken"):
            life.on_phase(Phase(name, 2.0))
            await asyncio.sleep(0.02)
        assert [list(body["phases"]) for _, _, body in gateway.heard] == [["container", "imports"]]
        life.text_ready()
        life.on_loaded(Loaded(8, 512, 64, 16, 320, (2,)))
        await announcer.wait_heard(5)
        assert gateway.phases == ["Loading", "Ready"]
        assert list(gateway.heard[1][2]["phases"]) == [
            "container",
            "imports",
            "weights",
            "firstToken",
        ]
        task.cancel()


def test_a_standby_speaks_for_whoever_it_serves(checkpoint: Path, tmp_path: Path) -> None:
    order = {"model": str(checkpoint), "namespace": "other", "token": "theirs"}
    with (
        listening() as gateway,
        serving(gateway, None, tmp_path / "log", Script()) as server,
    ):
        wait_until(lambda: server.wait_for("/health", 200).json["phase"] == "Standby")
        assert gateway.heard == []
        for deployment in ("one", "two"):
            gateway.heard.clear()
            assert server.order("/load", order | {"deployment": deployment}).status == 200
            wait_until(lambda: "Ready" in gateway.phases)
            assert server.order("/sleep").status == 200
            wait_until(lambda: gateway.phases[-1] == "Loading")
            assert server.order("/wake_up").status == 200
            wait_until(lambda: gateway.phases[-1] == "Ready")
            assert server.order("/unload").status == 200
            assert gateway.phases[-1] == "Draining"
            heard = [(key, body["namespace"], body["deployment"]) for _, key, body in gateway.heard]
            assert set(heard) == {("Bearer theirs", "other", deployment)}
            lives = [body["phases"]["container"] for _, _, body in gateway.heard]
            assert lives == sorted(lives)  # what is newer says so


def test_a_server_started_by_hand_announces_nothing() -> None:
    assert read_target(Config(model=Path("m"))) is None
    assert read_target(Config(announce_url="http://gateway:8090/a")) is None


@pytest.mark.parametrize(
    ("ip", "address"), [("10.0.0.1", "10.0.0.1:8000"), ("fd00::1", "[fd00::1]:8000")]
)
def test_the_address_has_brackets_where_it_must(ip: str, address: str) -> None:
    target = read_target(Config(model=Path("m"), announce_url="http://[fd00::9]:8090/a", pod_ip=ip))
    assert target is not None
    assert target.identity["address"] == address
    assert (target.host, target.port, target.path) == ("fd00::9", 8090, "/a")
