"""What may be ordered with a model, and how a wrong order is named."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from stoker_runtime.config import PROCESS_FIELDS, Config
from stoker_runtime.server.order import read_order, vacate
from stoker_runtime.server.refusal import Refusal

STANDBY = Config(max_num_seqs=8, token="pool", port=9000, preload="/m")


def read(**order: Any) -> Config:
    return read_order(json.dumps({"model": "/models/chat"} | order).encode(), STANDBY)


def test_an_order_needs_only_a_model_and_keeps_what_the_standby_was_given() -> None:
    assert read() == replace(STANDBY, model=Path("/models/chat"))
    assert read(servedName=None) == read()


def test_every_setting_that_is_not_the_processes_can_be_ordered() -> None:
    order = {
        "servedName": "chat",
        "maxModelLen": 512,
        "maxNumSeqs": 4,
        "dtype": "float32",
        "gpuMemoryUtilization": 1,
        "deployment": "chat",
        "namespace": "team",
        "token": "theirs",
        "quantization": "int8",
    }
    config = read(**order)
    assert (config.model_name, config.max_model_len, config.max_num_seqs) == ("chat", 512, 4)
    assert (config.dtype, config.deployment, config.namespace) == ("float32", "chat", "team")
    assert (config.token, config.quantization, config.port) == ("theirs", "int8", 9000)


@pytest.mark.parametrize(
    ("order", "param", "message"),
    [
        ({"model": ""}, "model", "`model` is required"),
        ({"model": "chat"}, "model", "must be an absolute path, was 'chat'"),
        ({"model": 3}, "model", "must be text"),
        ({"modle": "/m"}, "modle", "is not a setting of a model"),
        ({"max_model_len": 3}, "max_model_len", "is not a setting of a model"),
        ({"adminPort": 3}, "adminPort", "belongs to the process"),
        ({"preload": "/x"}, "preload", "belongs to the process"),
        ({"maxNumSeqs": "8"}, "maxNumSeqs", "must be a whole number"),
        ({"maxNumSeqs": True}, "maxNumSeqs", "must be a whole number"),
        ({"gpuMemoryUtilization": "0.5"}, "gpuMemoryUtilization", "must be a number"),
        ({"gpuMemoryUtilization": True}, "gpuMemoryUtilization", "must be a number"),
        ({"gpuMemoryUtilization": 2}, "gpuMemoryUtilization", "at most 1, was 2.0"),
        ({"maxNumSeqs": 0}, "maxNumSeqs", "must be ≥ 1, was 0"),
        ({"dtype": "fp8"}, "dtype", "was 'fp8'"),
        ({"dtype": ["float32"]}, "dtype", "must be text"),
    ],
    ids=str,
)
def test_a_wrong_order_is_named(order: dict[str, Any], param: str, message: str) -> None:
    with pytest.raises(Refusal) as caught:
        read(**order)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert message in caught.value.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff"])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(Refusal) as caught:
        read_order(body, STANDBY)
    assert caught.value.status == 400


def test_nothing_of_a_model_is_left_in_the_settings_without_it() -> None:
    assert vacate(STANDBY) == STANDBY
    started = replace(
        STANDBY, model=Path("/secret"), served_name="x", deployment="y", max_num_seqs=2
    )
    vacant = vacate(started)
    assert vacant.is_standby
    assert (vacant.token, vacant.port, vacant.preload) == ("pool", 9000, "/m")
    default = Config()
    for field in fields(Config):
        if field.name not in PROCESS_FIELDS | {"token"}:
            assert getattr(vacant, field.name) == getattr(default, field.name)
