"""Messages between the API process and the engine process.

Knows the structs and their framing (4-byte big-endian length, then msgpack); does not know what
either side does with them. Torch-free: both processes import it.
"""

from __future__ import annotations

import socket
from typing import Generic, Literal, TypeVar

import msgspec

from stoker_runtime.schedule.params import SamplingParams

Received = TypeVar("Received")
FinishReason = Literal["stop", "length", "abort", "error"]
ErrorCode = Literal["", "invalid", "overloaded", "internal"]
"""Whose fault an error is: the request's, too many requests', or ours; empty: no error."""

LoadPath = Literal["fresh", "warm", "resident"]
"""How a model came in: with its process, into a standby, or from a standby's host memory."""

NOT_FINITE = "the model's scores are not finite numbers"
"""The error of a sequence whose model overflowed; counted apart."""
STEP_TOKENS_BOUNDS = (1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
"""Upper bounds of the buckets in which `Stats.step_tokens` counts steps (those of vLLM)."""


class Generate(msgspec.Struct, tag="generate", frozen=True):
    """API → engine: make one sequence of tokens (a request with `n` choices sends n of them)."""

    id: str
    prompt_ids: list[int]
    params: SamplingParams
    priority: int = 0
    """Lower runs first (vLLM's meaning); first come, first served among equals."""
    cache_salt: str = ""
    """Prompts share cached blocks only with those of the same salt."""


class Abort(msgspec.Struct, tag="abort", frozen=True):
    """API → engine: nobody waits for these sequences any more. Unknown ids are ignored."""

    ids: list[str]


class Stop(msgspec.Struct, tag="stop", frozen=True):
    """API → engine: exit now; sent when the drain is over."""


class Load(msgspec.Struct, tag="load", frozen=True):
    """API → engine: take this model in; answered by `Loaded` or `Failed`."""

    flags: list[str]
    """A whole config, as on the command line."""


class Unload(msgspec.Struct, tag="unload", frozen=True):
    """API → engine: let go of the model and all that came of it; answered by `Settled`."""


class Sleep(msgspec.Struct, tag="sleep", frozen=True):
    """API → engine: drop the KV cache, at level 2 the weights too; answered by `Settled`."""

    level: Literal[1, 2]


class Wake(msgspec.Struct, tag="wake", frozen=True):
    """API → engine: be as before the `Sleep`; answered by `Loaded` or `Failed`."""


class Phase(msgspec.Struct, tag="phase", frozen=True):
    """Engine → API: a phase of the start ended (`imports`, `weights`, `firstToken`)."""

    name: str
    at: float
    """Unix seconds."""


class Loaded(msgspec.Struct, tag="loaded", frozen=True):
    """Engine → API: the model is ready, a real token was made."""

    slots: int
    """Sequences that run at once."""
    max_model_len: int
    """Longest prompt plus answer, in tokens."""
    num_kv_blocks: int
    block_size: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    path: LoadPath = "fresh"
    """What was there before."""
    weight_bytes: int = 0
    kv_bytes_per_token: int = 0
    memory_bytes: int = 0
    """What was there for weights, cache and activations."""


class Settled(msgspec.Struct, tag="settled", frozen=True):
    """Engine → API: a standby can take a model in; or an `Unload` or a `Sleep` was done."""


class Resident(msgspec.Struct, tag="resident", frozen=True):
    """Engine → API: a model to preload is in host memory, or is not because of `error`."""

    folder: str
    num_bytes: int
    error: str = ""


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """Engine → API: the model can't be served; `reason` is CamelCase, `message` says what to do."""

    reason: str
    message: str


class TokenLogprob(msgspec.Struct, frozen=True, array_like=True):
    """One token and its natural-log probability."""

    token_id: int
    logprob: float


class Output(msgspec.Struct, frozen=True, omit_defaults=True):
    """New tokens of one sequence; the last one of a sequence carries `finish_reason`."""

    id: str
    token_ids: list[int]
    finish_reason: FinishReason | None = None
    num_cached_tokens: int = 0
    """Prompt tokens answered from the prefix cache."""
    logprobs: list[TokenLogprob] = []
    """The chosen tokens' own, one per token in `token_ids`, when asked for."""
    top_logprobs: list[list[TokenLogprob]] = []
    """The most likely alternatives, one list per token, when asked for."""
    prompt_logprobs: list[list[TokenLogprob]] = []
    """Once, with the first token: per prompt token but the first, its own, then the likeliest."""
    error: str = ""
    """What went wrong, when `finish_reason` is `error`."""
    error_code: ErrorCode = ""
    """`overloaded` is worth a retry, `invalid` is not."""
    queued_s: float = 0.0
    """With the first token: from arrival until the first of the prompt was computed."""
    prefill_s: float = 0.0
    """With the first token: from then on until this token."""


class Outputs(msgspec.Struct, tag="outputs", frozen=True):
    """Engine → API: what one step made."""

    outputs: list[Output]


class Speed(msgspec.Struct, frozen=True):
    """What the engine's steps cost, as it measured: step + token · tokens, + more for each row."""

    step_s: float
    """Seconds of a step without tokens."""
    token_s: float
    """More for each token of a prompt."""
    seq_s: float
    """More for each sequence that decodes."""
    chunk_tokens: int
    """Tokens that one step may carry."""


class Stats(msgspec.Struct, tag="stats", frozen=True):
    """Engine → API: gauges and counters for `/metrics`; sent on change, at most 4 a second."""

    running: int
    waiting: int
    kv_blocks_used: int
    kv_blocks_total: int
    preemptions: int
    prompt_tokens: int
    generated_tokens: int
    prefix_queries: int = 0
    """Tokens looked up in the prefix cache when sequences were first admitted."""
    prefix_hits: int = 0
    """Those of them that were found."""
    steps: int = 0
    """Forward passes."""
    step_tokens_sum: int = 0
    """Tokens computed in all of them."""
    step_tokens: tuple[int, ...] = ()
    """Steps by their number of tokens: one count per `STEP_TOKENS_BOUNDS`, and one beyond."""
    finished: dict[str, int] = {}
    """Sequences that ended, by `FinishReason`."""
    waiting_tokens: int = 0
    """Prompt and answer tokens of the sequences that wait."""
    cached_tokens: int = 0
    """Tokens that the prefix cache can find again."""
    speed: Speed | None = None
    """What steps cost, once that is known well."""
    gpu_planned_bytes: int = 0
    """Most that tensors were planned to take of a GPU's memory, cache and weights included."""
    gpu_peak_bytes: int = 0
    """Most that they took."""


class Heartbeat(msgspec.Struct, tag="heartbeat", frozen=True):
    """Engine → API: the process is alive; once a second, busy or idle."""

    at: float
    step_s: float = 0.0
    """How long the step that is being computed has taken so far."""


ToEngine = Generate | Abort | Stop | Load | Unload | Sleep | Wake
ToApi = Phase | Loaded | Settled | Resident | Failed | Outputs | Stats | Heartbeat

_HEADER_BYTES = 4
_encoder = msgspec.msgpack.Encoder()
_to_engine_decoder = msgspec.msgpack.Decoder(ToEngine)
_to_api_decoder = msgspec.msgpack.Decoder(ToApi)


def pack(message: msgspec.Struct) -> bytes:
    """One frame: length and payload."""
    payload = _encoder.encode(message)
    return len(payload).to_bytes(_HEADER_BYTES, "big") + payload


class Inbox(Generic[Received]):
    """Bytes in, messages out."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[Received]) -> None:
        self._decoder = decoder
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Received]:
        """The messages that `data` completes, in order."""
        return [self._decoder.decode(payload) for payload in self._split(data)]

    def _split(self, data: bytes) -> list[bytes]:
        """The payloads that `data` completes."""
        self._buffer += data
        payloads = []
        while len(self._buffer) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self._buffer[:_HEADER_BYTES], "big")
            if len(self._buffer) < end:
                break
            payloads.append(bytes(self._buffer[_HEADER_BYTES:end]))
            del self._buffer[:end]
        return payloads


class EngineInbox(Inbox[ToEngine]):
    """The engine's side."""

    def __init__(self) -> None:
        super().__init__(_to_engine_decoder)


class ApiInbox(Inbox[ToApi]):
    """The API process's side."""

    def __init__(self) -> None:
        super().__init__(_to_api_decoder)


def send(sock: socket.socket, message: msgspec.Struct) -> None:
    """Write one frame, waiting for room. Raises `BrokenPipeError` when the peer is gone."""
    sock.sendall(pack(message))
