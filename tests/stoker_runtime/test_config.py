"""Flags, variables, defaults; and that bad values are named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from stoker_runtime.config import PROCESS_FIELDS, Config, flag_names, parse_config
from stoker_runtime.errors import ConfigInvalid

MODEL = ["--model", "/models/chat"]


def test_without_a_model_it_is_a_standby() -> None:
    assert parse_config([], {}).is_standby
    assert not parse_config(MODEL, {}).is_standby
    assert not parse_config(["--model", "."], {}).is_standby


def test_folders_are_absolute_so_that_each_has_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse_config(["--model", ".", "--preload", "a, b,,a,/c"], {})
    assert config.model_name == tmp_path.name
    assert config.preload_folders == (tmp_path / "a", tmp_path / "b", Path("/c"))
    assert Config().preload_folders == ()


def test_settings_of_the_process_are_settings() -> None:
    assert {field.name for field in dataclasses.fields(Config)} > PROCESS_FIELDS


def test_defaults_need_only_a_model() -> None:
    config = parse_config(MODEL, {})
    assert config == Config(model=Path("/models/chat"))
    assert (config.port, config.admin_port, config.max_num_seqs) == (8000, 8001, 32)
    assert (config.max_batched_tokens, config.block_size, config.seed) == (512, 16, 0)


def test_flags_win_over_variables_and_those_over_defaults() -> None:
    environ = {"STOKER_PORT": "9000", "STOKER_SEED": "3", "STOKER_MODEL": "/elsewhere"}
    config = parse_config([*MODEL, "--port=9100"], environ)
    assert (config.port, config.seed, config.model) == (9100, 3, Path("/models/chat"))


def test_variables_alone_are_enough() -> None:
    assert parse_config([], {"STOKER_MODEL": "/m", "STOKER_TOKEN": "t"}).token == "t"


def test_a_flag_hides_a_bad_variable() -> None:
    """Kubernetes sets STOKER_PORT=tcp://… for a Service called `stoker`."""
    environ = {"STOKER_PORT": "tcp://10.0.0.1:80"}
    assert parse_config([*MODEL, "--port", "8000"], environ).port == 8000


def test_empty_variables_count_as_absent() -> None:
    assert parse_config(MODEL, {"STOKER_PORT": ""}).port == 8000


def test_model_name_is_the_folders_unless_told() -> None:
    assert parse_config(MODEL, {}).model_name == "chat"
    assert parse_config([*MODEL, "--served-name", "x"], {}).model_name == "x"


def test_arguments_make_the_same_config_again_without_secrets() -> None:
    config = parse_config(
        [
            *(*MODEL, "--max-num-seqs", "4", "--dtype", "float32", "--api-key", "s1"),
            *("--gpu-memory-utilization", "0.75"),
        ],
        {"STOKER_TOKEN": "s2"},
    )
    args = config.to_args()
    assert "s1" not in args
    assert "s2" not in args
    assert parse_config(args, {}) == dataclasses.replace(config, api_key="", token="")


def test_every_flag_is_a_field() -> None:
    assert len(flag_names()) == len(dataclasses.fields(Config))
    assert "--kv-cache-tokens" in flag_names()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([*MODEL, "--prot", "1"], "unknown flag '--prot'"),
        ([*MODEL, "8000"], "unknown flag '8000'"),
        ([*MODEL, "--port"], "--port needs a value"),
        ([*MODEL, "--port", "many"], "`port` must be a whole number, was 'many'"),
        ([*MODEL, "--gpu-memory-utilization", "all"], "must be a number, was 'all'"),
        ([*MODEL, "--gpu-memory-utilization", "0"], "must be above 0 and at most 1, was 0.0"),
        ([*MODEL, "--gpu-memory-utilization", "nan"], "must be above 0 and at most 1, was nan"),
        ([*MODEL, "--port", "70000"], "`port` must be ≤ 65535, was 70000"),
        ([*MODEL, "--port", "-1"], "`port` must be ≥ 0, was -1"),
        ([*MODEL, "--max-num-seqs", "0"], "`max_num_seqs` must be ≥ 1, was 0"),
        ([*MODEL, "--max-model-len", "1"], "`max_model_len` must be 0 .* or ≥ 2, was 1"),
        ([*MODEL, "--block-size", "0"], "`block_size` must be ≥ 1, was 0"),
        ([*MODEL, "--dtype", "fp8"], "`dtype` must be one of auto, .*float16, was 'fp8'"),
        ([*MODEL, "--device", "tpu"], "`device` must be one of auto, cpu, cuda, was 'tpu'"),
        (
            [*MODEL, "--max-num-seqs", "64", "--max-batched-tokens", "32"],
            "`max_batched_tokens` must be ≥ `max_num_seqs`, was 32 < 64",
        ),
    ],
    ids=lambda value: " ".join(value[2:]) if isinstance(value, list) else "",
)
def test_bad_values_are_named(args: list[str], message: str) -> None:
    with pytest.raises(ConfigInvalid, match=message):
        parse_config(args, {})
