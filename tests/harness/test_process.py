"""The harness' `process.py`, without a cluster."""

import http.server
import os
import sys
import threading
from pathlib import Path

import pytest

from e2e.harness.process import answers, find, start, wait_until
from e2e.harness.settings import HarnessError


def test_a_program_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    script = "print('first'); raise SystemExit('cannot bind')"
    daemon = start("server", [sys.executable, "-c", script], tmp_path / "log" / "server.log")
    with pytest.raises(HarnessError, match=r"server ended(?s:.*)cannot bind"):
        wait_until(lambda: False, "serving", 20, (daemon,))


def test_a_program_outlives_a_check_and_ends_on_stop(tmp_path: Path) -> None:
    name = tmp_path / "sleeper"
    name.symlink_to("/bin/sleep")
    daemon = start("sleeper", [str(name), "60"], tmp_path / "log")
    daemon.check()
    wait_until(lambda: find(name) == [daemon.pid], "the program", 10, (daemon,))
    assert os.getsid(daemon.pid) == daemon.pid
    daemon.stop()
    assert find(name) == []
    daemon.stop()


def test_a_program_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    name = tmp_path / "shell"
    name.symlink_to("/bin/sh")
    script = "trap '' TERM; echo up; while :; do sleep 0.05; done"
    daemon = start("stubborn", [str(name), "-c", script], tmp_path / "log")
    wait_until(lambda: "up" in daemon.log.read_text(), "the trap", 10, (daemon,))
    daemon.stop(timeout_s=0.2)
    assert find(name) == []


def test_waiting_says_what_did_not_happen() -> None:
    with pytest.raises(HarnessError, match="the moon did not happen within 0 s"):
        wait_until(lambda: False, "the moon", 0)


def test_an_url_answers_only_with_200() -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/yes" else 503)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        assert answers(f"{url}/yes")
        assert not answers(f"{url}/no")
        server.shutdown()
    assert not answers(f"{url}/yes")
