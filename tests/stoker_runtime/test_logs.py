"""Two formats, tracebacks included."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest

from stoker_runtime.logs import configure_logging


@pytest.fixture(autouse=True)
def restored_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


def test_json_is_one_object_per_record(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json")
    try:
        raise ValueError("bad\nluck")
    except ValueError:
        logging.getLogger("stoker").exception("it said %s", "no")
    (line,) = capsys.readouterr().err.splitlines()
    entry = json.loads(line)
    assert (entry["level"], entry["logger"], entry["message"]) == ("error", "stoker", "it said no")
    assert "ValueError: bad\nluck" in entry["exception"]


def test_text_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("text")
    logging.getLogger("stoker").info("hello")
    logging.getLogger("stoker").debug("not this")
    assert capsys.readouterr().err.endswith(" INFO stoker: hello\n")
