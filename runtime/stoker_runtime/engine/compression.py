"""Makes a quantised checkpoint of an unquantised one: `stoker quantize`.

Knows folders, the order of the work and what is left as it is; does not know how a matrix is
rounded (`quant`) or judged (`evaluation`). Inputs are seen by running calibration texts through the
runtime's own decoder, with recorders in the place of its products. The result is in
compressed-tensors' "pack-quantized" format.
"""

from __future__ import annotations

import json
import mmap
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import save_file

from stoker_runtime.config import Config
from stoker_runtime.engine.assembly import build_engine
from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.evaluation import (
    BLOCK_TOKENS,
    MAX_EXAMPLE_TOKENS,
    ROW_TOKENS,
    batches,
    chunks,
    run_all,
)
from stoker_runtime.engine.examples import PROMPTS, Example, ExampleReader
from stoker_runtime.engine.folding import Folding, Recorder
from stoker_runtime.engine.loading import Recipe, prepare
from stoker_runtime.engine.machine import observe_machine
from stoker_runtime.engine.runner import Runner
from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.kernels.embedding import DenseEmbedding
from stoker_runtime.kernels.linear import DenseLinear, Linear
from stoker_runtime.model.decoder import build_decoder
from stoker_runtime.model.layout import Fused
from stoker_runtime.model.reader import BlobReader
from stoker_runtime.model.storage import BIAS, EMBED, WEIGHT, is_product
from stoker_runtime.model.weights import Weights, build_tensors, stored_tensor
from stoker_runtime.quant.gptq import Codes, round_gptq, round_nearest
from stoker_runtime.quant.pack import WORD_BITS, Scheme, describe, pack_product
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.wire import Generate

Method = Literal["rtn", "awq", "gptq"]
_MOMENT_BYTES = 1 << 30
"""Second moments kept at once; products beyond them wait for another run of the texts."""
_ANSWER_TOKENS = 128
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".msgpack", ".h5")


@dataclass(frozen=True, slots=True)
class Order:
    """What to make of which checkpoint."""

    source: Path
    target: Path
    scheme: Scheme
    method: Method


class Compression:
    """One checkpoint on its way to fewer bits; `run` does all of it."""

    def __init__(self, order: Order) -> None:
        """Check the checkpoint and read it; raises what the runtime raises for it."""
        if order.target.exists() and any(order.target.iterdir()):
            raise ConfigInvalid(f"{order.target} is not empty")
        self._order = order
        self._recipe = _prepare(order.source)
        self._blob = BlobReader(self._recipe.placed).start().wait()
        self._tensors = _read_tensors(self._recipe, self._blob)
        self._linears = self._dense()
        self._changed: set[str] = set()
        self.reader = ExampleReader(order.source, MAX_EXAMPLE_TOKENS)

    def answer_prompts(self) -> list[Example]:
        """What the model itself says to the prompts that come with the runtime."""
        engine = self._build_engine(self._linears)
        asked = [self.reader.chat([{"role": "user", "content": text}]) for text in PROMPTS]
        params = SamplingParams(max_tokens=_ANSWER_TOKENS, temperature=0.0)
        found = run_all(
            engine,
            [Generate(str(i), list(one.prompt_ids), params) for i, one in enumerate(asked)],
        )
        return [
            Example(one.prompt_ids, tuple(ids), self.reader.decode(ids))
            for one, ids in zip(asked, found.values(), strict=True)
            if ids
        ]

    def run(self, examples: Sequence[Example]) -> None:
        """Round all products by what the examples make of them, and write the checkpoint."""
        made: dict[str, torch.Tensor] = {}
        products = [fused for fused in self._recipe.layout if self._is_rounded(fused)]
        for batch in _affordable(products):
            recorders = self._record(batch, examples)
            if self._order.method == "awq":
                folding = Folding(self._recipe.spec, self._order.scheme, self._tensors, recorders)
                folding.fold_all()
                self._changed |= folding.changed
            for fused in batch:
                codes = self._round(fused, recorders)
                self._replace(fused, codes)
                made |= self._pack(fused, codes)
        self._write(made)

    def _is_rounded(self, fused: Fused) -> bool:
        """Products whose rows and columns the format can hold."""
        if not is_product(fused):
            return False
        scheme, per_word = self._order.scheme, WORD_BITS // self._order.scheme.bits
        columns = fused.shape[1]
        whole = columns % per_word == 0 and columns % scheme.groups_of(columns) == 0
        return whole and all(part.shape[0] % per_word == 0 for part in fused.parts)

    def _record(self, batch: Sequence[Fused], examples: Sequence[Example]) -> dict[str, Recorder]:
        if self._order.method == "rtn":
            return {}
        recorders = {
            name: Recorder(self._linears[name], fused.shape[1])
            for fused in batch
            if (name := _name(fused))
        }
        runner = self._build_runner(self._linears | recorders)
        for some in batches(examples):
            runner.compute(chunks(some))
        return recorders

    def _round(self, fused: Fused, recorders: Mapping[str, Recorder]) -> Codes:
        scheme, weight = self._order.scheme, self._tensors[fused.name]
        dtype = stored_tensor(self._blob, self._recipe.placed[fused.parts[0].name]).dtype
        recorder = recorders.get(_name(fused))
        if recorder is None:
            return round_nearest(weight, scheme, dtype)
        if self._order.method == "gptq" and bool(recorder.moments.any()):
            return round_gptq(weight, recorder.moments, scheme, dtype)
        return round_nearest(weight, scheme, dtype, recorder.moments.diagonal())

    def _replace(self, fused: Fused, codes: Codes) -> None:
        """What comes later is calibrated behind what was rounded already."""
        name = _name(fused)
        self._linears[name] = DenseLinear(codes.weight, self._tensors.get(name + BIAS))

    def _pack(self, fused: Fused, codes: Codes) -> dict[str, torch.Tensor]:
        made: dict[str, torch.Tensor] = {}
        row = 0
        for part in fused.parts:
            rows = slice(row, row + part.shape[0])
            leaves = pack_product(
                self._order.scheme, codes.codes[rows], codes.scales[rows], codes.zeros[rows]
            )
            stem = part.name.removesuffix("weight")
            made |= {stem + suffix: tensor for suffix, tensor in leaves.items()}
            row = rows.stop
        return made

    def _write(self, made: dict[str, torch.Tensor]) -> None:
        order, recipe = self._order, self._recipe
        ignored = ["lm_head"]
        for fused in recipe.layout:
            if self._is_rounded(fused):
                continue
            made |= self._keep(fused)
            if is_product(fused):
                ignored += [part.name.removesuffix(WEIGHT) for part in fused.parts]
        order.target.mkdir(parents=True, exist_ok=True)
        for file in sorted(order.source.iterdir()):
            if file.is_file() and not file.name.endswith((*_WEIGHT_SUFFIXES, ".index.json")):
                shutil.copyfile(file, order.target / file.name)
        config = json.loads((order.source / "config.json").read_text(encoding="utf-8"))
        config["quantization_config"] = describe(order.scheme, ignored)
        text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
        save_file(made, order.target / "model.safetensors", metadata={"format": "pt"})
        (order.target / "model.safetensors").chmod(0o644)  # it is written for its owner alone
        (order.target / "config.json").write_text(text, encoding="utf-8")

    def _keep(self, fused: Fused) -> dict[str, torch.Tensor]:
        """The parts of what is not rounded, as they were or as folding left them."""
        stored = {
            part.name: stored_tensor(self._blob, self._recipe.placed[part.name])
            for part in fused.parts
        }
        if fused.name not in self._changed:
            return stored
        rows = [len(tensor) for tensor in stored.values()]
        parts = zip(stored.items(), torch.split(self._tensors[fused.name], rows), strict=True)
        return {name: new.to(old.dtype).contiguous() for (name, old), new in parts}

    def _dense(self) -> dict[str, Linear]:
        """All products as they are in `_tensors`."""
        tensors = self._tensors
        products: dict[str, Linear] = {
            name.removesuffix(WEIGHT): DenseLinear(
                tensor, tensors.get(name.removesuffix(WEIGHT) + BIAS)
            )
            for name, tensor in tensors.items()
            if name.endswith(WEIGHT)
        }
        return products | {"head": DenseLinear(tensors.get("head", tensors["embed"]))}

    def _weights(self, linears: Mapping[str, Linear]) -> Weights:
        embed = self._tensors[EMBED]
        return Weights(self._tensors, DenseEmbedding(embed, embed.dtype), linears)

    def _build_engine(self, linears: Mapping[str, Linear]) -> Engine:
        model = build_decoder(self._recipe.spec, self._weights(linears))
        return build_engine(self._recipe, model)[0]

    def _build_runner(self, linears: Mapping[str, Linear]) -> Runner:
        model = build_decoder(self._recipe.spec, self._weights(linears))
        return Runner(model, 2 * ROW_TOKENS // BLOCK_TOKENS, BLOCK_TOKENS)


def _prepare(source: Path) -> Recipe:
    config = Config(
        model=source,
        dtype="float32",
        device="cpu",
        quantization="none",
        kv_cache_tokens=2 * ROW_TOKENS,
        block_size=BLOCK_TOKENS,
        max_batched_tokens=ROW_TOKENS,
    )
    return prepare(config, observe_machine(), packs=False)


def _read_tensors(recipe: Recipe, blob: mmap.mmap) -> dict[str, torch.Tensor]:
    return build_tensors(blob, recipe.layout, recipe.placed, torch.float32, torch.device("cpu"))


def _affordable(products: Sequence[Fused]) -> Iterator[list[Fused]]:
    """Products in their order, as many at a time as there is memory for their moments."""
    batch: list[Fused] = []
    room = _MOMENT_BYTES
    for fused in products:
        num_bytes = 4 * fused.shape[1] ** 2
        if batch and num_bytes > room:
            yield batch
            batch, room = [], _MOMENT_BYTES
        batch.append(fused)
        room -= num_bytes
    if batch:
        yield batch


def _name(fused: Fused) -> str:
    return fused.name.removesuffix(WEIGHT)
