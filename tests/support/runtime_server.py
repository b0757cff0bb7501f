"""Runs the real server as a process of its own, and speaks to it in several dialects.

Knows how to start it on free ports, with the real engine or a scripted one, and how to stop it;
does not know what is tested. One `RuntimeServer` is one process pair.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import openai

import support.fake_engine as fake_engine
from support.raw_http import Answer

ROOT = Path(__file__).parents[2]
TINY_CHAT = ROOT / "models/tiny-chat"
MODEL = "tiny"


@dataclass
class RuntimeServer:
    """A server process."""

    process: subprocess.Popen[bytes]
    port: int
    admin_port: int
    log: Path
    key: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def client(self, **options: Any) -> openai.OpenAI:
        """OpenAI's own client; close it (`with`)."""
        url = f"http://127.0.0.1:{self.port}/v1"
        defaults = {"base_url": url, "api_key": self.key or "none", "max_retries": 0}
        return openai.OpenAI(**defaults | options)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        admin: bool = False,
    ) -> Answer:
        """One request on a connection of its own; a dict goes as JSON."""
        connection = self.open(method, path, body, headers=headers, admin=admin)
        try:
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: dict[str, str] | None = None,
        admin: bool = False,
    ) -> http.client.HTTPConnection:
        """Send a request and do not wait for its answer."""
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        extra = {"content-type": "application/json"} if data is not None else {}
        if self.key:
            extra["authorization"] = f"Bearer {self.key}"
        port = self.admin_port if admin else self.port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request(method, path, data, extra | (headers or {}))
        return connection

    def raw(self, data: bytes, *, seconds: float = 30) -> bytes:
        """Send bytes and read until the server closes."""
        received = b""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as sock:
            sock.sendall(data)
            while part := sock.recv(1 << 16):
                received += part
        return received

    def metric(self, name: str) -> float:
        """The value of a series, by the beginning of its line."""
        lines = self.request("GET", "/metrics").body.decode().splitlines()
        return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])

    def wait_for(self, path: str, status: int, seconds: float = 60) -> Answer:
        """Ask until the status comes."""

        def asked() -> Answer | None:
            try:
                answer = self.request("GET", path)
            except OSError:
                return None
            return answer if answer.status == status else None

        return wait_until(asked, seconds)

    @property
    def engine_pid(self) -> int:
        """The engine process: the only child of the server."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def cpu_s(self) -> float:
        """Processor time that both processes have used so far."""
        used = 0
        for pid in (self.process.pid, self.engine_pid):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            used += int(fields[11]) + int(fields[12])
        return used / os.sysconf("SC_CLK_TCK")

    def order(self, path: str, body: Any = None) -> Answer:
        """One request to the admin port."""
        return self.request("POST", path, body, admin=True)

    def state(self) -> Any:
        """Where the pod stands."""
        return self.request("GET", "/state", admin=True).json

    def terminate(self) -> None:
        """SIGTERM: drain."""
        self.process.send_signal(signal.SIGTERM)


def wait_until(look: Any, seconds: float = 10) -> Any:
    """The first true result of `look`, asked again and again."""
    give_up_at = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < give_up_at, "it did not come true in time"
        time.sleep(0.01)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports


@contextmanager
def run_tiny_chat(log: Path) -> Iterator[RuntimeServer]:
    """A real server of the demo's model, ready."""
    flags = ("--threads", "1", "--kv-cache-tokens", "4096")
    with run_server(TINY_CHAT, log, *flags) as running:
        running.wait_for("/ready", 200, seconds=100)
        yield running


@contextmanager
def run_server(
    model: Path | None,
    log: Path,
    *flags: str,
    script: fake_engine.Script | None = None,
    environ: dict[str, str] | None = None,
) -> Iterator[RuntimeServer]:
    """Start a server, with the scripted engine if there is a script; kill it in the end.

    Without a model it is a standby.
    """
    port, admin_port = free_ports(2)
    command = [sys.executable, "-m", "stoker_runtime", "serve"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("STOKER_")}
    if script is not None:
        command = [sys.executable, fake_engine.__file__, "serve"]
        env["FAKE_ENGINE"] = fake_engine.dump(script)
    command += ["--model", str(model), "--served-name", MODEL] if model else []
    command += ["--host", "127.0.0.1", "--port", str(port), "--admin-port", str(admin_port), *flags]
    env |= environ or {}
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=env, stderr=file, stdout=file, cwd=log.parent)
    try:
        yield RuntimeServer(process, port, admin_port, log, env.get("STOKER_TOKEN", ""))
    finally:
        process.kill()
        process.wait()
