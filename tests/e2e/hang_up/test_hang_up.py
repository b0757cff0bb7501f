"""Clients that hang up while they are held: nothing runs for nobody longer than it must."""

import contextlib
import socket
import time
import urllib.parse
from collections.abc import Iterator

import pytest

from e2e.stage import specs
from e2e.stage.figures import Figures
from e2e.stage.pods import PodWatch
from e2e.stage.release import Release

pytestmark = pytest.mark.e2e

_BODY = b'{"model":"%s","stream":true,"messages":[{"role":"user","content":"hi"}]}'


@contextlib.contextmanager
def _raw_request(release: Release, model: str) -> Iterator[socket.socket]:
    """A streaming request on a bare socket, so that the test decides when it hangs up."""
    url = urllib.parse.urlsplit(release.url)
    body = _BODY % model.encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: {url.hostname}\r\n"
        f"Authorization: Bearer {release.api_key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((url.hostname, url.port or 80), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        yield connection


def test_a_wake_that_nobody_waits_for_ends_by_the_idle_timeout(
    release: Release, figures: Figures, pod_watch: PodWatch
) -> None:
    spec = specs.stub(release.images.stub, "--stub-start-delay=4s", idleTimeout="3s")
    with release.deployed("hangup", spec):
        release.wait_at_zero("hangup")
        with _raw_request(release, "hangup"):
            pod_watch.added("hangup", since=time.time() - 1)
            time.sleep(0.5)
        hung_up_at = time.time()
        gone = pod_watch.leaving("hangup", since=hung_up_at, timeout_s=30)
        figures.note_seconds(
            "all clients hang up → pod deleted", [gone.at - hung_up_at], "3 s idle"
        )
        release.wait_at_zero("hangup")
        inputs = release.get("hangup")["status"]["scaling"]
        assert inputs["reason"] in ("IdleTimeout", "Steady")
        assert inputs["inputs"].get("queued", 0) == 0


def test_a_hang_up_leaves_the_others_in_the_queue(release: Release) -> None:
    spec = specs.stub(release.images.stub, "--stub-start-delay=2s")
    with release.deployed("stays", spec):
        release.wait_at_zero("stays")
        with _raw_request(release, "stays"):
            held = release.asker("stays").start()
            time.sleep(0.3)
        answer = held.result()
        assert not answer.lost, answer.error
