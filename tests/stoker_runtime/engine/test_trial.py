"""A trial keeps the texts that judge apart from those that calibrate."""

from __future__ import annotations

from pathlib import Path

from stoker_runtime.engine.compression import Order
from stoker_runtime.engine.trial import try_compression
from stoker_runtime.quant.pack import Scheme

TINY_CHAT = Path(__file__).parents[3] / "models/tiny-chat"
INT8 = Scheme(8, 0, symmetric=True)


def write_chats(path: Path, start: int) -> Path:
    lines = (TINY_CHAT / "heldout.jsonl").read_text().splitlines()
    path.write_text("\n".join(lines[start::70]) + "\n")
    return path


def test_every_fifth_text_judges_when_there_is_no_file_for_it(tmp_path: Path) -> None:
    texts = write_chats(tmp_path / "texts.jsonl", 0)
    told: list[str] = []
    order = Order(TINY_CHAT, tmp_path / "out", INT8, "rtn")
    trial = try_compression(order, texts, report=told.append)
    assert (trial.num_calibrating, trial.num_judging) == (4, 2)
    assert told[0] == "reading"
    assert trial.after.num_bytes < 0.6 * trial.before.num_bytes
    assert abs(trial.after.quality.perplexity / trial.before.quality.perplexity - 1) < 0.01


def test_a_file_to_judge_by_leaves_all_texts_for_calibration(tmp_path: Path) -> None:
    texts = write_chats(tmp_path / "texts.jsonl", 0)
    judging = write_chats(tmp_path / "judging.jsonl", 5)
    order = Order(TINY_CHAT, tmp_path / "out", INT8, "rtn")
    trial = try_compression(order, texts, judging)
    assert (trial.num_calibrating, trial.num_judging) == (6, 6)
