"""An engine process without a model, for what the real one can't be made to do: crash, hang, crawl.

Speaks the wire; answers every prompt by repeating it, one token per step and sequence. How it
misbehaves is said by the environment: `FAKE_ENGINE` holds the JSON of a `Script`.

    python fake_engine.py serve --model …      the whole server with this engine
    python fake_engine.py --fd N …             the engine alone, as the server starts it
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from itertools import cycle, islice

import msgspec

from stoker_runtime.__main__ import main
from stoker_runtime.wire import (
    Abort,
    EngineInbox,
    ErrorCode,
    Failed,
    Generate,
    Heartbeat,
    Load,
    Loaded,
    LoadPath,
    Output,
    Outputs,
    Phase,
    Settled,
    Sleep,
    Stats,
    TokenLogprob,
    Unload,
    Wake,
    send,
)


class Script(msgspec.Struct):
    """What the engine does; the defaults behave."""

    load_s: float = 0.0
    """Before the model is loaded."""
    step_s: float = 0.0
    """A step's length."""
    stuck_s: float = 0.0
    """How long it says that its step has taken."""
    crash_after: int = -1
    """Exit in this step; -1 never."""
    fail: str = ""
    """Say `Failed` with this reason instead of loading."""
    error: str = ""
    """End every sequence with this error."""
    error_code: ErrorCode = "internal"
    """And with this code."""
    slots: int = 4
    max_model_len: int = 256
    vocab_size: int = 320


def dump(script: Script) -> str:
    """The script as the environment carries it."""
    return msgspec.json.encode(script).decode()


class FakeEngine:
    """One run over one socket."""

    def __init__(self, sock: socket.socket, script: Script) -> None:
        self.sock, self.script = sock, script
        self.inbox = EngineInbox()
        self.running: dict[str, tuple[Generate, int]] = {}
        self.steps = 0

    def run(self) -> None:
        """Load, then step until the other end closes."""
        if "--model" in sys.argv:
            self.load("fresh")
        else:
            send(self.sock, Settled())
        while self.read():
            if self.running:
                self.step()

    def load(self, path: LoadPath) -> None:
        """Say what an engine says while it loads."""
        script = self.script
        time.sleep(script.load_s)
        for name in ("imports", "weights", "firstToken"):
            send(self.sock, Phase(name, time.time()))
        if script.fail:
            send(self.sock, Failed(script.fail, "remove `fail` from the script"))
        else:
            sizes = (script.slots, script.max_model_len, 64, 16, script.vocab_size)
            send(self.sock, Loaded(*sizes, (2,), path, 2**20, 64, 2**30))

    def read(self) -> bool:
        """Take messages; wait for one when there is nothing to do."""
        ready, _, _ = select.select([self.sock], [], [], 0 if self.running else 1.0)
        send(self.sock, Heartbeat(time.time(), self.script.stuck_s))
        if not ready:
            return True
        data = self.sock.recv(1 << 20)
        for message in self.inbox.feed(data):
            match message:
                case Generate():
                    self.running[message.id] = (message, 0)
                case Abort():
                    for id in message.ids:
                        self.running.pop(id, None)
                case Load() | Wake():
                    self.load("warm")
                case Unload() | Sleep():
                    send(self.sock, Settled())
                case _:
                    return False
        self.report()
        return bool(data)

    def step(self) -> None:
        """One token for every sequence."""
        time.sleep(self.script.step_s)
        if self.steps == self.script.crash_after:
            os._exit(3)
        self.steps += 1
        outputs = [self.advance(*self.running[id]) for id in list(self.running)]
        send(self.sock, Outputs(outputs))
        if any(output.finish_reason for output in outputs):
            self.report()

    def advance(self, request: Generate, made: int) -> Output:
        """The next token of one sequence."""
        token = next(islice(cycle(request.prompt_ids), made, None))
        self.running[request.id] = (request, made + 1)
        reason = "error" if self.script.error else None
        if made + 1 == request.params.max_tokens:
            reason = reason or "length"
        if reason:
            del self.running[request.id]
        logprob = TokenLogprob(token, -0.5)
        asked = request.params.logprobs
        chosen = [] if asked is None else [logprob]
        top = [[logprob] * asked] if asked else []
        scores = _score_prompt(request) if made == 0 else []
        output = Output(request.id, [token], reason, 0, chosen, top, scores)
        if not self.script.error:
            return output
        said = {"error": self.script.error, "error_code": self.script.error_code}
        return msgspec.structs.replace(output, **said)

    def report(self) -> None:
        """What runs."""
        send(self.sock, Stats(len(self.running), 0, len(self.running), 64, 0, 0, self.steps))


def _score_prompt(request: Generate) -> list[list[TokenLogprob]]:
    asked = request.params.prompt_logprobs
    if asked is None:
        return []
    entries = [TokenLogprob(id, -1.0) for id in request.prompt_ids[1:]]
    return [[entry] * (1 + asked) for entry in entries]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        sys.exit(main(sys.argv[1:], engine=(__file__,)))
    own = socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1]))
    FakeEngine(own, msgspec.json.decode(os.environ.get("FAKE_ENGINE", "{}"), type=Script)).run()
