"""`python -m stoker_operator`: settings, logs, and the process under uvloop.

Knows how a process begins and which exit code says what; everything else is in `process.py`.
"""

from __future__ import annotations

import logging
import os
import sys

import uvloop
from pydantic import ValidationError

from stoker_api.environ import PREFIX, read_settings
from stoker_operator.errors import ClusterError
from stoker_operator.process import run_process
from stoker_operator.settings import Settings

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def main() -> int:
    """Run until a signal comes; 1 without a cluster, 2 when a setting is bad."""
    try:
        settings = read_settings(Settings, os.environ)
    except ValidationError as error:
        for problem in error.errors():
            variable = PREFIX + "_".join(str(part) for part in problem["loc"]).upper()
            print(f"{variable}: {problem['msg']}, was {problem['input']!r}", file=sys.stderr)
        return 2
    _set_up_logging(settings)
    try:
        uvloop.run(run_process(settings))
    except ClusterError as error:
        print(f"no cluster: {error}", file=sys.stderr)
        return 1
    return 0


def _set_up_logging(settings: Settings) -> None:
    handler = logging.StreamHandler()
    if settings.log_format == "json":
        handler.setFormatter(_json_formatter())
    else:
        handler.setFormatter(logging.Formatter(TEXT))
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler])


def _json_formatter() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # kopf brings it; text logs do without

    return JsonFormatter("%(asctime)s %(levelname)s %(name)s %(message)s")


if __name__ == "__main__":
    sys.exit(main())
