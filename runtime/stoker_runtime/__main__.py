"""`python -m stoker_runtime serve --model FOLDER …`: the API process.

Knows the order in which things start; does not know HTTP or models. The ports listen and the
engine process runs before anything slow is imported here, so both processes import side by side.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Sequence
from types import FrameType

from stoker_runtime.config import Config, flag_names, parse_config
from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.spawn import ENGINE_MODULE, spawn_engine

_BACKLOG = 2048


def main(args: Sequence[str], engine: Sequence[str] = ENGINE_MODULE) -> int:
    """Serve until SIGTERM; the exit code. Tests give another `engine` command."""
    signal.signal(signal.SIGTERM, _leave)  # process 1 of a container has no default action
    if not args or args[0] != "serve":
        print(f"usage: python -m stoker_runtime serve {' '.join(flag_names())}", file=sys.stderr)
        return 2
    try:
        config = parse_config(args[1:], os.environ)
        public, admin = listen(config, config.port), listen(config, config.admin_port)
    except ConfigInvalid as error:
        print(f"stoker_runtime: {error}", file=sys.stderr)
        return 2
    process = spawn_engine(config.to_args(), engine)
    from stoker_runtime.server.run import Start, run

    return run(Start(config=config, public=public, admin=admin, engine=process))


def listen(config: Config, port: int) -> socket.socket:
    """Bind and listen, so that clients can connect while the rest is still imported."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        return socket.create_server((config.host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigInvalid(f"can't listen on {config.host}:{port}: {error.strerror}") from None


def _leave(signum: int, frame: FrameType | None) -> None:
    """SIGTERM before anything runs: the engine ends by itself when its socket closes."""
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
