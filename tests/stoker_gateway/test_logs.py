"""Log lines."""

from __future__ import annotations

import json
import logging
import sys

from stoker_gateway.logs import JsonFormatter


def test_a_json_line_has_time_level_message_and_traceback() -> None:
    try:
        raise ValueError("bad")
    except ValueError:
        record = logging.LogRecord("a.b", 30, "f", 1, "got %d", (3,), sys.exc_info())
    line = json.loads(JsonFormatter().format(record))
    assert (line["level"], line["logger"], line["message"]) == ("warning", "a.b", "got 3")
    assert line["time"].endswith("Z")
    assert "ValueError: bad" in line["exception"]
