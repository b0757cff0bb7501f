"""How the process begins: bad settings and a missing cluster end it with words."""

from __future__ import annotations

import os
import subprocess
import sys


def _run(**environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stoker_operator"]
    env = {**os.environ, "KUBECONFIG": "/nonexistent"} | environ
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_a_bad_setting_is_named_with_its_value() -> None:
    ended = _run(STOKER_LEASE_DURATION_S="soon")
    assert ended.returncode == 2
    assert "STOKER_LEASE_DURATION_S" in ended.stderr
    assert "'soon'" in ended.stderr


def test_without_a_cluster_it_says_so() -> None:
    ended = _run(STOKER_LOG_FORMAT="json")
    assert ended.returncode == 1
    assert "neither a service account nor a usable kubeconfig" in ended.stderr
