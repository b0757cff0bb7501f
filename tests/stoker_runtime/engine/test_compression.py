"""`stoker quantize`: what it writes loads, and costs little."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from stoker_runtime.engine.compression import Compression, Method, Order
from stoker_runtime.engine.evaluation import answer_all, measure_perplexity, open_engine
from stoker_runtime.engine.examples import PROMPTS, Example, ExampleReader
from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.model.checkpoint import read_headers
from stoker_runtime.quant.pack import Scheme
from support.checkpoints import LlamaShape, write_checkpoint

TINY_CHAT = Path(__file__).parents[3] / "models/tiny-chat"
NUM_EXAMPLES = 24
INT4 = Scheme(4, 32, symmetric=True)


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """A few of each task."""
    found = ExampleReader(TINY_CHAT, 512).read(TINY_CHAT / "heldout.jsonl")
    return found[:: len(found) // NUM_EXAMPLES]


@pytest.fixture(scope="module")
def full(examples: list[Example]) -> float:
    return perplexity(TINY_CHAT, examples)


def perplexity(folder: Path, examples: list[Example], quantization: str = "auto") -> float:
    engine = open_engine(folder, quantization, threads=1)
    return measure_perplexity(engine.runner, examples)


@pytest.mark.parametrize(("target", "bound"), [("int8", 0.01), ("int4", 0.03), ("fp8", 0.01)])
def test_rounding_while_loading_costs_little(
    examples: list[Example], full: float, target: str, bound: float
) -> None:
    assert perplexity(TINY_CHAT, examples, target) < full * (1 + bound)


def test_rounding_keys_and_values_costs_little(examples: list[Example], full: float) -> None:
    """Measured on all 408 chats by `make bench-quant`; here on a few of each task."""
    plain, rounded = (
        open_engine(TINY_CHAT, threads=1, kv_cache_dtype=dtype) for dtype in ("auto", "int8")
    )
    assert rounded.runner.caches.data.dtype == torch.int8
    assert measure_perplexity(rounded.runner, examples) < full * 1.01
    reader, some = ExampleReader(TINY_CHAT, 512), examples[::3]
    assert answer_all(rounded, reader, some) == answer_all(plain, reader, some)


@pytest.mark.parametrize("method", ["rtn", "awq", "gptq"])
def test_a_written_checkpoint_costs_little(
    tmp_path: Path, examples: list[Example], full: float, method: Method
) -> None:
    compression = Compression(Order(TINY_CHAT, tmp_path / "out", INT4, method))
    compression.run(compression.reader.read(TINY_CHAT / "heldout.jsonl")[::40])
    assert perplexity(tmp_path / "out", examples) < full * 1.03
    stored = (tmp_path / "out/model.safetensors").stat().st_size
    assert stored < 0.5 * (TINY_CHAT / "model.safetensors").stat().st_size


def test_eight_bits_cost_next_to_nothing(
    tmp_path: Path, examples: list[Example], full: float
) -> None:
    Compression(Order(TINY_CHAT, tmp_path / "out", Scheme(8, 0, True), "rtn")).run([])
    assert perplexity(tmp_path / "out", examples) < full * 1.01


def test_the_folder_is_whole(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    Compression(Order(source, tmp_path / "out", INT4, "rtn")).run([])
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in source.iterdir()}
    config = json.loads((tmp_path / "out/config.json").read_text())
    assert config["quantization_config"]["ignore"] == ["lm_head"]


def test_products_that_the_format_can_not_hold_stay_as_they_are(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source", LlamaShape(intermediate_size=100))
    Compression(Order(source, tmp_path / "out", INT4, "rtn")).run([])
    stored = read_headers(tmp_path / "out")
    assert "model.layers.0.mlp.down_proj.weight" in stored
    assert "model.layers.0.self_attn.o_proj.weight_packed" in stored
    assert measure_perplexity(open_engine(tmp_path / "out").runner, [Example((3, 4, 5))]) > 1


def test_the_model_answers_the_prompts_that_come_with_the_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = PROMPTS[:27:9]  # those with short answers
    monkeypatch.setattr("stoker_runtime.engine.compression.PROMPTS", few)
    examples = Compression(Order(TINY_CHAT, tmp_path / "out", INT4, "gptq")).answer_prompts()
    assert len(examples) == len(few)
    assert all(example.answer and example.answer_ids for example in examples)


def test_a_target_in_use_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    with pytest.raises(ConfigInvalid, match="is not empty"):
        Compression(Order(source, source, INT4, "rtn"))


def test_a_quantised_source_is_refused(tmp_path: Path) -> None:
    source = write_checkpoint(tmp_path / "source")
    Compression(Order(source, tmp_path / "once", INT4, "rtn")).run([])
    with pytest.raises(ConfigInvalid, match="is quantised already"):
        Compression(Order(tmp_path / "once", tmp_path / "twice", INT4, "rtn"))
