"""Broken checkpoints are refused with file, tensor, what was expected and what was found."""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker_runtime.errors import CheckpointBroken, CheckpointNotFound, StokerRuntimeError
from stoker_runtime.model.checkpoint import Stored, check_tensors, read_headers
from stoker_runtime.model.layout import ignored_names, plan_layout
from stoker_runtime.model.spec import read_spec
from support.checkpoints import LlamaShape, random_weights, write_checkpoint, write_safetensors

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
NORM = "model.norm.weight"


def check(folder: Path) -> dict[str, Stored]:
    spec = read_spec(folder)
    stored = read_headers(folder)
    check_tensors(stored, plan_layout(spec), ignored_names(spec))
    return stored


def edit_header(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    """Rewrite a file's header and leave its data alone."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def write_tensors(folder: Path, changes: dict[str, Any]) -> None:
    """The default weights with some replaced, added, or (None) left out."""
    tensors = dict(random_weights(LlamaShape())) | changes
    write_safetensors(
        folder / SINGLE, {name: value for name, value in tensors.items() if value is not None}
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path)


@pytest.mark.parametrize("shards", [1, 3])
def test_good_checkpoints_pass(tmp_path: Path, shards: int) -> None:
    stored = check(write_checkpoint(tmp_path, shards=shards))
    assert stored[NORM].shape == (64,)
    assert stored[NORM].torch_dtype == "float32"
    assert len({tensor.file for tensor in stored.values()}) == shards


def test_agrees_with_the_safetensors_library(folder: Path) -> None:
    from safetensors import safe_open

    with safe_open(folder / SINGLE, "np") as file:
        names = set(file.keys())
        shape = tuple(file.get_slice(NORM).get_shape())
    stored = read_headers(folder)
    assert set(stored) == names
    assert stored[NORM].shape == shape


def test_absent_weights_are_not_found(folder: Path) -> None:
    (folder / SINGLE).unlink()
    with pytest.raises(CheckpointNotFound, match=f"neither {SINGLE} nor .*download complete"):
        check(folder)


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / SINGLE).rename(folder / "pytorch_model.bin")
    with pytest.raises(CheckpointNotFound, match=r"pytorch_model\.bin is pickled and never read"):
        check(folder)


def test_an_absent_shard_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(CheckpointNotFound, match=r"model-00002-of-00003.* does not exist"):
        check(folder)


def test_a_tensor_in_the_wrong_shard_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, shards=2)
    index = json.loads((folder / INDEX).read_text())
    first, second = sorted(set(index["weight_map"].values()))
    index["weight_map"] |= {NORM: second if index["weight_map"][NORM] == first else first}
    (folder / INDEX).write_text(json.dumps(index))
    with pytest.raises(CheckpointBroken, match=f"tensor {NORM} is missing, {INDEX} says"):
        check(folder)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../b", "./x", "..", ".", "", 3, None, ["x"]]
)
def test_a_shard_can_not_point_out_of_the_folder(tmp_path: Path, name: object) -> None:
    folder = write_checkpoint(tmp_path / "model", shards=2)
    (folder / INDEX).write_text(json.dumps({"weight_map": {NORM: name}}))
    with pytest.raises(CheckpointBroken, match=f"tensor {NORM} must be in a file of this folder"):
        check(folder)


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    (folder / SINGLE).unlink()
    os.mkfifo(folder / SINGLE)
    with pytest.raises(CheckpointBroken, match=f"{SINGLE} must be a regular file"):
        check(folder)


def test_overlapping_tensors_are_named(folder: Path) -> None:
    other = "model.layers.1.post_attention_layernorm.weight"

    def overlap(header: dict[str, Any]) -> None:
        begin, end = header[other]["data_offsets"]
        header[NORM]["data_offsets"] = [begin + 4, end + 4]

    edit_header(folder / SINGLE, overlap)
    with pytest.raises(CheckpointBroken, match=rf"{SINGLE}: tensors .* and .* overlap"):
        check(folder)


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 10**9, 0])
def test_a_wrong_header_length_is_named(folder: Path, length: int) -> None:
    data = (folder / SINGLE).read_bytes()
    (folder / SINGLE).write_bytes(struct.pack("<Q", length) + data[8:])
    with pytest.raises(CheckpointBroken, match=SINGLE):
        check(folder)


@pytest.mark.parametrize("shape", [[1e999], ["x"], [-1], 3, None])
def test_a_shape_that_is_none_is_named(folder: Path, shape: object) -> None:
    edit_header(folder / SINGLE, lambda header: header[NORM].update(shape=shape))
    with pytest.raises(CheckpointBroken, match=SINGLE):
        check(folder)


def test_a_nest_of_brackets_is_named(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, shards=2)
    (folder / INDEX).write_text("[" * 200_000)
    with pytest.raises(CheckpointBroken, match="weight_map"):
        check(folder)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"weight_map": {}}', '{"weight_map": 3}'])
def test_a_broken_index_is_named(tmp_path: Path, text: str) -> None:
    folder = write_checkpoint(tmp_path, shards=2)
    (folder / INDEX).write_text(text)
    with pytest.raises(CheckpointBroken, match="weight_map"):
        check(folder)


@pytest.mark.parametrize("kept", [0, 4, 7, 100, 5000], ids=str)
def test_a_truncated_file_is_named(folder: Path, kept: int) -> None:
    path = folder / SINGLE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointBroken, match=f"{SINGLE} is truncated") as caught:
        check(folder)
    assert f"the file has {kept}" in str(caught.value)


def test_a_truncated_tensor_is_named(folder: Path) -> None:
    path = folder / SINGLE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointBroken, match=f"tensor {NORM} ends at byte"):
        check(folder)


def test_not_safetensors_at_all(folder: Path) -> None:
    (folder / SINGLE).write_bytes(b"PK\x03\x04" + b"x" * 1000)
    with pytest.raises(CheckpointBroken, match="truncated or not safetensors"):
        check(folder)
    (folder / SINGLE).write_bytes(struct.pack("<Q", 5) + b"hello" + b"x" * 1000)
    with pytest.raises(CheckpointBroken, match="header is not safetensors"):
        check(folder)


def test_a_wrong_shape_is_named(folder: Path) -> None:
    write_tensors(folder, {NORM: dict(random_weights(LlamaShape()))[NORM][:63]})
    with pytest.raises(
        CheckpointBroken, match=rf"{SINGLE}: tensor {NORM} must have shape \[64\] .*found \[63\]"
    ):
        check(folder)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    write_tensors(folder, {NORM: None})
    with pytest.raises(CheckpointBroken, match=rf"tensor {NORM} \[64\] is missing"):
        check(folder)


def test_an_unexpected_tensor_is_named(folder: Path) -> None:
    write_tensors(folder, {"model.extra": dict(random_weights(LlamaShape()))[NORM]})
    with pytest.raises(CheckpointBroken, match=r"tensor model\.extra is unexpected"):
        check(folder)


def test_known_leftovers_are_ignored(folder: Path) -> None:
    norm = dict(random_weights(LlamaShape()))[NORM]
    leftovers = ["model.layers.0.self_attn.rotary_emb.inv_freq", "lm_head.weight"]
    write_tensors(folder, dict.fromkeys(leftovers, norm))
    assert NORM in check(folder)


def test_a_wrong_dtype_is_named(folder: Path) -> None:
    edit_header(folder / SINGLE, lambda header: header[NORM].update(dtype="I32"))
    with pytest.raises(CheckpointBroken, match=f"{NORM} .* F32, BF16, F16, found I32"):
        check(folder)


def test_a_wrong_size_is_named(folder: Path) -> None:
    edit_header(folder / SINGLE, lambda header: header[NORM].update(dtype="BF16"))
    with pytest.raises(CheckpointBroken, match=f"tensor {NORM} must have 128 bytes, found 256"):
        check(folder)


def test_offsets_before_the_data_are_refused(folder: Path) -> None:
    edit_header(folder / SINGLE, lambda header: header[NORM].update(data_offsets=[-300, -44]))
    with pytest.raises(CheckpointBroken, match="is truncated"):
        check(folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(place=st.integers(0, 2500), byte=st.integers(0, 255))
def test_no_broken_byte_in_the_header_escapes_as_another_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    folder = write_checkpoint(tmp_path_factory.mktemp("model"))
    data = bytearray((folder / SINGLE).read_bytes())
    data[place] = byte
    (folder / SINGLE).write_bytes(data)
    with contextlib.suppress(StokerRuntimeError):
        check(folder)
