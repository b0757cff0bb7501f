"""The settings of the runtime, one frozen class for both processes.

Knows every flag, its default and its range; reads `--flag value` first, then `STOKER_FLAG` from the
environment. Imports nothing slow: the API process must answer within half a second of its start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from stoker_runtime.errors import ConfigInvalid

_CHOICES = {
    "dtype": ("auto", "float32", "bfloat16", "float16"),
    "quantization": ("auto", "none", "int8", "int4", "fp8"),
    "kv_cache_dtype": ("auto", "int8", "fp8"),
    "device": ("auto", "cpu", "cuda"),
    "overlap": ("auto", "on", "off"),
    "log_format": ("text", "json"),
}
_POSITIVE = (
    *("max_num_seqs", "block_size", "max_batched_tokens", "max_silence_s", "max_step_s"),
    "tensor_parallel",
)
_MINIMUM = dict.fromkeys(_POSITIVE, 1)
_MAXIMUM = {"port": 65535, "admin_port": 65535, "prefix_caching": 1, "tensor_parallel": 16}
_SECRETS = ("token", "api_key")
NO_MODEL = Path()
PROCESS_FIELDS = frozenset(
    {
        *("device", "threads", "host", "port", "admin_port", "api_key", "preload", "preload_bytes"),
        *("announce_url", "pod_name", "pod_ip", "max_body_bytes", "drain_deadline_s"),
        *("max_silence_s", "max_step_s", "log_format", "tensor_parallel"),
    }
)
"""Settings that stay for the life of the process; the others come and go with the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Settings of one runtime: flag `--max-num-seqs`, variable `STOKER_MAX_NUM_SEQS`."""

    model: Path = NO_MODEL
    """Checkpoint folder: config.json, *.safetensors, tokenizer.json; empty: a standby, which waits
    for `/load` on the admin port."""
    served_name: str = ""
    """The `model` of OpenAI requests; empty: the folder's name."""
    max_model_len: int = 0
    """Longest prompt plus answer in tokens; 0: what the checkpoint and the cache allow."""
    max_num_seqs: int = 32
    """Sequences that run at once; more wait."""
    max_batched_tokens: int = 512
    """Tokens computed in one step; bounds how long a prompt can hold up the streams."""
    kv_cache_tokens: int = 0
    """Tokens the KV cache holds; 0: sized from free memory."""
    kv_cache_dtype: str = "auto"
    """auto is what attention computes in (float32 on CPUs); int8 rounds each head of a token by its
    largest value and holds nearly four times as many tokens (twice as many on GPUs); fp8 does so in
    8-bit floats, on NVIDIA GPUs of compute capability 8.9 or newer."""
    block_size: int = 16
    """Tokens per block of the KV cache."""
    prefix_caching: int = 1
    """1 reuses what the cache still holds of prompts that begin alike, 0 computes all anew."""
    prefix_cache_tokens: int = 0
    """Tokens that are remembered for nobody in particular; 0: as many as the KV cache holds. On
    CPUs, where memory is taken when it is first written to, fewer of them keep a process small."""
    overlap: str = "auto"
    """on prepares the next step while one is computed, off does not; auto does where a GPU computes
    with kernels: on a CPU both would take the same cores."""
    max_waiting: int = 2048
    """Sequences that may wait besides those that run; more are refused."""
    max_waiting_tokens: int = 1 << 20
    """Tokens of all that wait; more are refused, unless it is a single sequence."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16; auto is what this device computes fastest."""
    quantization: str = "auto"
    """auto keeps what the checkpoint declares, none refuses a quantised one; int8, int4 and fp8
    (floats of 8 bits) round an unquantised one while loading."""
    device: str = "auto"
    """auto, cpu or cuda; auto takes a GPU if there is one."""
    gpu_memory_utilization: float = 0.9
    """Share of a GPU's memory that may be taken, by others and this process together; what weights
    and activations leave of it is KV cache."""
    threads: int = 0
    """CPU threads of the engine; 0: the cgroup's quota, at most the CPUs this process may use."""
    tensor_parallel: int = 1
    """Processes that compute one model together, each a share of every layer: on GPUs one each, on
    CPUs they share the threads."""
    seed: int = 0
    """Where the seeds of requests without their own come from."""
    host: str = "0.0.0.0"
    """Address both ports listen on."""
    port: int = 8000
    """OpenAI API, health, readiness and metrics."""
    admin_port: int = 8001
    """Load, drain and sleep; only for the operator."""
    api_key: str = ""
    """Key that clients must send when the server is started by hand; empty: open."""
    token: str = ""
    """Key that the gateway sends; set by the operator through `STOKER_TOKEN`."""
    announce_url: str = ""
    """Where to announce phases; empty: nowhere."""
    pod_name: str = ""
    """This pod's name, for announcements."""
    namespace: str = ""
    """This pod's namespace, for announcements."""
    deployment: str = ""
    """The LLMDeployment this pod belongs to, for announcements."""
    pod_ip: str = ""
    """This pod's address, for announcements."""
    max_body_bytes: int = 8 << 20
    """Largest request body; about two million tokens of text."""
    drain_deadline_s: int = 595
    """How long running requests may go on after SIGTERM; a little less than the pod's grace."""
    preload: str = ""
    """Checkpoint folders, separated by commas, whose weights are kept in host memory."""
    preload_bytes: int = 0
    """Host memory that `preload` may fill; 0: half of what is free at the start."""
    max_silence_s: int = 30
    """How long the engine may say nothing before `/health` asks for a restart."""
    max_step_s: int = 600
    """How long one step of the engine may take before `/health` asks for a restart."""
    log_format: str = "text"
    """text or json."""

    def __post_init__(self) -> None:
        """Check every range, so that a `Config` that exists is a good one."""
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigInvalid(f"`{name}` must be one of {', '.join(choices)}, was {value!r}")
        for field in fields(self):
            _check_range(field.name, getattr(self, field.name))
        if self.max_model_len == 1:
            raise ConfigInvalid("`max_model_len` must be 0 (the model's own) or ≥ 2, was 1")
        if self.max_batched_tokens < self.max_num_seqs:
            raise ConfigInvalid(
                "`max_batched_tokens` must be ≥ `max_num_seqs`, "
                f"was {self.max_batched_tokens} < {self.max_num_seqs}"
            )

    @property
    def is_standby(self) -> bool:
        """There is no model yet."""
        return self.model == NO_MODEL

    @property
    def model_name(self) -> str:
        """The name clients ask for."""
        return self.served_name or self.model.name

    @property
    def preload_folders(self) -> tuple[Path, ...]:
        """`preload`, each folder once and in its order."""
        names = (name.strip() for name in self.preload.split(","))
        return tuple(dict.fromkeys(Path(name).absolute() for name in names if name))

    def to_args(self) -> list[str]:
        """Flags that make the same config elsewhere; secrets stay in the environment."""
        args: list[str] = []
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in _SECRETS and value != field.default:
                args += [_flag(field.name), str(value)]
        return args


def parse_config(args: Sequence[str], environ: Mapping[str, str]) -> Config:
    """Read flags (`--name value` or `--name=value`), then the environment, then defaults."""
    given = _read_environment(environ) | _read_flags(args)
    return Config(**{name: _convert(name, text) for name, text in given.items()})  # type: ignore[arg-type]


def flag_names() -> tuple[str, ...]:
    """Every flag, in the order of the class."""
    return tuple(_flag(field.name) for field in fields(Config))


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_environment(environ: Mapping[str, str]) -> dict[str, str]:
    names = {field.name: f"STOKER_{field.name.upper()}" for field in fields(Config)}
    return {name: environ[key] for name, key in names.items() if environ.get(key)}


def _read_flags(args: Sequence[str]) -> dict[str, str]:
    names = {_flag(field.name): field.name for field in fields(Config)}
    given: dict[str, str] = {}
    rest = iter(args)
    for arg in rest:
        flag, has_value, value = arg.partition("=")
        if flag not in names:
            raise ConfigInvalid(f"unknown flag {arg!r}; `python -m stoker_runtime` lists them")
        if not has_value:
            value = next(rest, "")
            if not value:
                raise ConfigInvalid(f"{flag} needs a value")
        given[names[flag]] = value
    return given


def _convert(name: str, text: str) -> str | int | float | Path:
    kind = Config.__annotations__[name]
    if kind == "Path":
        return Path(text).absolute()
    if kind == "str":
        return text
    number, wanted = (float, "number") if kind == "float" else (int, "whole number")
    try:
        return number(text)
    except ValueError:
        raise ConfigInvalid(f"`{name}` must be a {wanted}, was {text!r}") from None


def _check_range(name: str, value: object) -> None:
    if isinstance(value, float) and not 0 < value <= 1:
        raise ConfigInvalid(f"`{name}` must be above 0 and at most 1, was {value}")
    if not isinstance(value, int):
        return
    minimum, maximum = _MINIMUM.get(name, 0), _MAXIMUM.get(name, 2**63 - 1)
    if value < minimum:
        raise ConfigInvalid(f"`{name}` must be ≥ {minimum}, was {value}")
    if value > maximum:
        raise ConfigInvalid(f"`{name}` must be ≤ {maximum}, was {value}")
