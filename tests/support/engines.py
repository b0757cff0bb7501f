"""Real engines on tiny random checkpoints, in this process and on one thread."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from stoker_runtime.config import Config
from stoker_runtime.engine.assembly import build_engine, build_model
from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.loading import prepare
from stoker_runtime.engine.machine import Machine
from stoker_runtime.model.decoder import Decoder
from stoker_runtime.model.reader import BlobReader
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.wire import Generate, Output

GREEDY = SamplingParams(max_tokens=24, temperature=0.0, ignore_eos=True)
MACHINE = Machine(num_cpus=1, available_bytes=2 << 30, has_bf16=False, has_gpu=False)


def make_model(folder: Path, **settings: object) -> Decoder:
    """The decoder of a checkpoint folder."""
    recipe = prepare(_config(folder, settings), MACHINE)
    return build_model(recipe, BlobReader(recipe.placed, 2).start().wait())


def make_engine(folder: Path, **settings: object) -> Engine:
    """An engine that loaded a checkpoint folder; settings are fields of `Config`."""
    recipe = prepare(_config(folder, settings), MACHINE)
    model = build_model(recipe, BlobReader(recipe.placed, 2).start().wait())
    return build_engine(recipe, model)[0]


def _config(folder: Path, settings: dict[str, object]) -> Config:
    defaults = {"dtype": "float32", "device": "cpu", "threads": 1, "kv_cache_tokens": 4096}
    return Config(model=folder, **{**defaults, **settings})  # type: ignore[arg-type]


def run_all(engine: Engine, requests: Iterable[Generate]) -> dict[str, list[Output]]:
    """Submit everything, step until nothing is left; the outputs of each request."""
    outputs: dict[str, list[Output]] = {}
    refused = [output for request in requests for output in engine.submit(request)]
    for output in refused:
        outputs.setdefault(output.id, []).append(output)
    while engine.has_work:
        for output in engine.step():
            outputs.setdefault(output.id, []).append(output)
    return outputs


def token_ids(outputs: Iterable[Output]) -> list[int]:
    """The tokens of one request."""
    return [token for output in outputs for token in output.token_ids]
