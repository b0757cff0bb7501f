"""A GPU without kernels of its own is served by torch, and that is said."""

from __future__ import annotations

import logging
import mmap
from types import SimpleNamespace

import pytest
import torch

from stoker_runtime.engine.assembly import build_model, has_kernels
from stoker_runtime.errors import ConfigInvalid


def test_a_gpu_that_nothing_was_compiled_for_is_left_to_torch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    recipe = SimpleNamespace(device="cuda", dtype="bfloat16")
    with caplog.at_level(logging.WARNING):
        assert not has_kernels(recipe)  # type: ignore[arg-type]
    assert "sm_75" in caplog.text


@pytest.mark.parametrize(("device", "dtype"), [("cpu", "bfloat16"), ("cuda", "float32")])
def test_kernels_are_for_short_floats_on_gpus(device: str, dtype: str) -> None:
    assert not has_kernels(SimpleNamespace(device=device, dtype=dtype))  # type: ignore[arg-type]


def test_keys_in_8_bit_floats_are_refused_on_older_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA A100")
    recipe = SimpleNamespace(device="cuda", cache_dtype="fp8")
    with pytest.raises(ConfigInvalid, match=r"8\.9 or newer, NVIDIA A100 has 8\.0: use int8"):
        build_model(recipe, mmap.mmap(-1, 1))  # type: ignore[arg-type]
