"""`stoker serve FOLDER`: the runtime by hand, without a cluster, with the engine that the pod runs.

Knows how the runtime is started, when it is ready and how it is stopped; does not know its flags:
they are passed on, and the runtime itself checks them and says what is wrong.
"""

from __future__ import annotations

import ctypes
import http.client
import importlib.util
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from stoker_cli.needs import refuse_without

_NEEDED = ("torch", "safetensors", "tokenizers", "jinja2", "msgspec", "httptools", "uvloop")
_POLL_S = 0.1
_ASK_S = 2.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server is and what it is called."""

    host: str
    port: int
    name: str

    @property
    def url(self) -> str:
        """The base URL for clients on this machine."""
        return f"http://{self.reachable}:{self.port}/v1"

    @property
    def reachable(self) -> str:
        """An address that leads to the server from here."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"[{host}]" if ":" in host else host


def serve(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="config.json, *.safetensors, …")],
    port: Annotated[int, typer.Option(help="Of the OpenAI API; 0: one that is free.")] = 8000,
    admin_port: Annotated[int, typer.Option(help="Of load and drain; 0: one that is free.")] = 0,
    host: Annotated[str, typer.Option(help="0.0.0.0 lets other machines in.")] = "127.0.0.1",
    name: Annotated[
        str, typer.Option("--name", "--served-name", help="Of the model; empty: the folder's.")
    ] = "",
) -> None:
    """Serve a checkpoint on this machine. Further flags go to the runtime: see docs/settings.md."""
    check_folder(path)
    check_installed()
    place = Place(host, port or find_port(host), name or path.resolve().name)
    ports = ("--port", str(place.port), "--admin-port", str(admin_port or find_port(host)))
    command = [sys.executable, "-m", "stoker_runtime", "serve", "--model", str(path)]
    command += ["--served-name", place.name, "--host", host, *ports, *context.args]
    raise typer.Exit(_Served(place).run(command))


def check_folder(path: Path) -> None:
    """Refuse what can't be a checkpoint, in words for newcomers."""
    if not path.exists() and not path.is_absolute() and len(path.parts) == 2:
        words = f"there is no folder {path}; to serve a model of the hub, download it first: "
        raise typer.BadParameter(f"{words}hf download {path} --local-dir {path.name}")
    if not path.is_dir():
        raise typer.BadParameter(f"{path} is no folder; give the one with config.json")
    if not (path / "config.json").is_file():
        raise typer.BadParameter(f"{path} has no config.json, so it is no checkpoint")


def check_installed() -> None:
    """Refuse to start without the runtime's libraries, and name what is missing."""
    missing = [library for library in _NEEDED if importlib.util.find_spec(library) is None]
    if missing:
        refuse_without(*missing)


def find_port(host: str) -> int:
    """A port that nobody listens on just now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            words = f"--host {host} is no address of this machine: {error.strerror}"
            raise typer.BadParameter(words) from error
        return int(probe.getsockname()[1])


class _Served:
    """The runtime's process: waits until it is ready, hands signals on, waits until it ends."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None
        self._num_stops = 0

    def run(self, command: Sequence[str]) -> int:
        """The exit code. The process has a group of its own, so Ctrl-C comes to us alone."""
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, self._on_signal)
        ends_with_us = die_with(os.getpid())
        self._process = subprocess.Popen(command, process_group=0, preexec_fn=ends_with_us)
        has_failed = not self._wait_ready(self._process)
        code = self._process.wait()
        if code < 0:
            say(f"the runtime was ended by {signal.Signals(-code).name}")
            return 128 - code  # as shells say it
        return code or int(has_failed and not self._num_stops)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        """The first stop drains, the second cuts what still runs."""
        self._num_stops += 1
        if self._process is None:
            sys.exit(130)
        if self._num_stops == 1:
            say("draining: running answers are finished; Ctrl-C again cuts them")
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM if self._num_stops == 1 else signal.SIGINT)

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> bool:
        """Announce when it is ready; end it when it can't be."""
        while process.poll() is None and not self._num_stops:
            state = self._ask_ready()
            if state is None:
                say(describe(self._place, os.environ.get("STOKER_API_KEY", "")))
                return True
            if state.get("phase") == "Failed":
                say(f"{state.get('reason')}: {state.get('message')}")
                process.terminate()
                return False
            time.sleep(_POLL_S)
        return False

    def _ask_ready(self) -> dict[str, object] | None:
        """None when ready, else what `/ready` says."""
        host = self._place.reachable.strip("[]")
        connection = http.client.HTTPConnection(host, self._place.port, timeout=_ASK_S)
        try:
            connection.request("GET", "/ready")
            response = connection.getresponse()
            body = response.read()
            return None if response.status == 200 else dict(json.loads(body))
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        finally:
            connection.close()


def die_with(parent: int) -> Callable[[], None]:
    """To be called in a new process: a parent that is killed, or already was, takes it along.

    The runtime gets SIGTERM and drains. Linux alone knows this (prctl(2)).
    """
    libc = ctypes.CDLL(None)  # loaded here: between fork and exec little is safe

    def ask_kernel() -> None:
        if sys.platform == "linux":
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask_kernel


def say(text: str) -> None:
    """Tell the person at the terminal; standard output stays free for programs."""
    print(text, file=sys.stderr, flush=True)


def describe(place: Place, key: str = "") -> str:
    """What is ready and how to try it; the key itself is not printed."""
    body = {"model": place.name, "messages": [{"role": "user", "content": "What is 27 + 15?"}]}
    header = ' -H "Authorization: Bearer $STOKER_API_KEY"' if key else ""
    return (
        f"\n{place.name} is ready at {place.url}; Ctrl-C ends it. Try:\n\n"
        f"  curl {place.url}/chat/completions -H 'Content-Type: application/json'{header} \\\n"
        f"    -d {shlex.quote(json.dumps(body))}\n"
    )
