"""`stoker chat` against servers that answer, refuse or are not there."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from stoker_cli.__main__ import app
from support.odd_server import run_odd_server
from support.runtime_server import free_ports


@pytest.fixture
def url() -> Iterator[str]:
    """An odd server in a thread of its own: the command blocks ours."""
    loop, found, done = asyncio.new_event_loop(), list[str](), asyncio.Event()
    ready = threading.Event()

    async def serve() -> None:
        async with run_odd_server() as running:
            found.append(running)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(done.set)
    thread.join(10)
    loop.close()


def chat(url: str, model: str) -> Result:
    return CliRunner().invoke(app, ["chat", model, "hello", "--url", url], env={"COLUMNS": "100"})


def test_streams_an_answer_and_says_when_it_began(url: str) -> None:
    done = chat(url.removesuffix("/v1"), "good")
    assert done.exit_code == 0, done.output
    assert "word word word" in done.output
    assert "first token here after" in done.output
    assert done.stdout.endswith(" s\n")


@pytest.mark.parametrize(
    ("model", "words"), [("busy", "RateLimitError"), ("broken", "500"), ("stream-error", "no")]
)
def test_a_refusal_is_one_line_and_an_exit_code(url: str, model: str, words: str) -> None:
    done = chat(url, model)
    assert done.exit_code == 1
    assert words in done.stderr
    assert "Traceback" not in done.output
    assert done.stdout.endswith(" s\n")  # before an error too, and where rich writes no line ends


def test_a_server_that_is_not_there_is_named() -> None:
    [port] = free_ports(1)
    done = chat(f"127.0.0.1:{port}", "good")
    assert done.exit_code == 1
    assert f"nothing answers at http://127.0.0.1:{port}/v1" in done.stderr
    assert "stoker serve" in done.stderr


@pytest.mark.parametrize("model", ["drops", "resets"])
def test_a_connection_that_breaks_is_said_without_a_traceback(url: str, model: str) -> None:
    done = chat(url, model)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
