"""The stub runtime keeps the runtime's contract, seen from a gateway that is this test."""

import http.server
import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPResponse
from typing import Any

import pytest

from e2e.harness.settings import Settings
from e2e.harness.toolchain import tool

pytestmark = pytest.mark.e2e

_TOKEN = "secret"


@dataclass
class Stub:
    """A running stub and what it announced."""

    process: subprocess.Popen[bytes]
    port: int
    announced: list[dict[str, Any]] = field(default_factory=list)

    def wait(self, phase: str) -> dict[str, Any]:
        """The announcement of a phase."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for announcement in self.announced:
                if announcement["phase"] == phase:
                    return announcement
            time.sleep(0.01)
        raise AssertionError(f"{phase} was not announced: {self.announced}")

    def ask(self, token: str = _TOKEN, **body: Any) -> HTTPResponse:
        """POST a chat; raises `HTTPError` for anything but 200."""
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        text = json.dumps({"model": "m", "messages": [], **body}).encode()
        request = urllib.request.Request(url, text, {"Authorization": f"Bearer {token}"})
        response: HTTPResponse = urllib.request.urlopen(request, timeout=10)
        return response


@pytest.fixture
def start_stub(harness_settings: Settings) -> Iterator[Callable[..., Stub]]:
    """Starts stubs that announce to a server of this test."""
    program = tool(harness_settings.cache, "stoker-stub")
    running: list[Stub] = []

    class Announcements(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.headers["Authorization"] == f"Bearer {_TOKEN}"
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            next(one for one in running if str(one.port) == body["pod"]).announced.append(body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Announcements) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"

        def start(*args: str) -> Stub:
            ports = _free_ports()
            env = {"STOKER_ANNOUNCE_URL": url, "STOKER_TOKEN": _TOKEN, "STOKER_POD_IP": "10.0.0.1"}
            env |= {"STOKER_POD_NAME": str(ports[0]), "PATH": os.environ["PATH"]}
            where = [f"--port={ports[0]}", f"--admin-port={ports[1]}"]
            stub = Stub(subprocess.Popen([program, *where, *args], env=env), ports[0])
            running.append(stub)
            return stub

        yield start
        for stub in running:
            stub.process.kill()
            stub.process.wait()
        server.shutdown()


def _free_ports() -> list[int]:
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], two.getsockname()[1]]


def test_announces_its_start_and_answers(start_stub: Callable[..., Stub]) -> None:
    stub = start_stub("--max-num-seqs", "3", "--stub-start-delay=50ms")
    ready = stub.wait("Ready")
    assert ready["slots"] == 3
    assert ready["address"] == f"10.0.0.1:{stub.port}"
    assert set(ready["phases"]) == {"container", "imports", "weights", "firstToken"}
    assert ready["phases"]["weights"] - ready["phases"]["imports"] >= 0.05
    with stub.ask(max_tokens=2) as response:
        assert json.load(response)["choices"][0]["message"]["content"] == "token0 token1 "
    with stub.ask(max_tokens=2, stream=True) as response:
        lines = response.read().decode().split("\n\n")
    assert [json.loads(line[6:])["choices"][0]["delta"]["content"] for line in lines[:3]] == [
        "token0 ",
        "token1 ",
        "",
    ]
    assert lines[3] == "data: [DONE]"


def test_refuses_before_any_work(start_stub: Callable[..., Stub]) -> None:
    loading = start_stub("--stub-never-ready=true")
    loading.wait("Loading")
    assert _refusal(loading) == "loading"
    stub = start_stub("--stub-slots=1", "--stub-token-delay=200ms")
    stub.wait("Ready")
    assert _status(stub, token="wrong").code == 401
    with stub.ask(max_tokens=16, stream=True) as response:
        response.readline()
        assert _refusal(stub) == "full"
        os.kill(stub.process.pid, signal.SIGTERM)
        stub.wait("Draining")
        assert _refusal(stub) == "draining"
        assert response.read().decode().endswith("data: [DONE]\n\n")
    assert stub.process.wait(timeout=10) == 0


def test_a_failed_start_is_announced_and_the_pod_stays(start_stub: Callable[..., Stub]) -> None:
    stub = start_stub("--stub-fail=CheckpointNotFound")
    assert stub.wait("Failed")["reason"] == "CheckpointNotFound"
    assert _refusal(stub) == "loading"
    assert stub.process.poll() is None


def _refusal(stub: Stub) -> str:
    answer = _status(stub)
    assert answer.code == 503
    return str(answer.headers["x-stoker-refused"])


def _status(stub: Stub, token: str = _TOKEN) -> urllib.error.HTTPError:
    """The error that a request ends with."""
    with pytest.raises(urllib.error.HTTPError) as refused:
        stub.ask(token)
    refused.value.close()
    return refused.value
