"""The score of the committed model is the same here and behind the real server."""

from pathlib import Path

import pytest

import evaluate
from support.runtime_server import MODEL, run_server
from tinychat.heldout import read_heldout, write_heldout

FLAGS = ("--threads", "1", "--max-num-seqs", "8", "--kv-cache-tokens", "4096", "--dtype", "float32")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One held-out question of each task."""
    path = tmp_path_factory.mktemp("heldout") / "few.jsonl"
    examples = {e.task: e for e in read_heldout(evaluate.MODEL_FOLDER / "heldout.jsonl")}
    write_heldout(path, list(examples.values()))
    return path


def test_a_server_is_scored_as_the_reference_is(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    local = evaluate.main(["--heldout", str(questions), "--at-least", "0.8"])
    shown = capsys.readouterr().out.partition("\n\n")[0]
    with run_server(evaluate.MODEL_FOLDER, tmp_path / "log", *FLAGS) as server:
        server.wait_for("/ready", 200, seconds=100)
        url = ["--url", f"http://127.0.0.1:{server.port}/v1", "--model", MODEL]
        served = evaluate.main([*url, "--heldout", str(questions), "--at-least", "0.8"])
    assert capsys.readouterr().out.partition("\n\n")[0] == shown
    assert local == served == 0


def test_a_low_score_fails_and_mistakes_are_shown(
    questions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = questions.read_text().splitlines()[0].replace('"answer": "', '"answer": "not ')
    (tmp_path / "wrong.jsonl").write_text(line + "\n")
    wrong = ["--heldout", str(tmp_path / "wrong.jsonl"), "--mistakes"]
    assert evaluate.main([*wrong, "--at-least", "0.5"]) == 1
    assert "expected not " in capsys.readouterr().out
    assert evaluate.main(wrong) == 0
