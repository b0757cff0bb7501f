"""Which model and how it is run: the `model` and `engine` parts of a deployment.

Knows the fields, their limits and the flags that users may add; does not know what the runtime
makes of them. Building the pod's arguments is `stoker_operator.build`'s work.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from stoker_api.fields import ApiModel, Image, ServedName, Source
from stoker_api.metadata import SecretReference
from stoker_api.rules import rule, rules
from stoker_api.source import ModelSource, parse_source

RESERVED_FLAGS = (
    "--model",
    "--served-name",
    "--max-model-len",
    "--max-num-seqs",
    "--quantization",
    "--kv-cache-dtype",
    "--prefix-caching",
    "--preload",
    "--preload-bytes",
    "--tensor-parallel",
    "--device",
    "--host",
    "--port",
    "--admin-port",
    "--drain-deadline-s",
    "--token",
    "--api-key",
    "--announce-url",
    "--pod-name",
    "--pod-ip",
    "--namespace",
    "--deployment",
)
"""Flags that fields of the spec, or the operator, set."""
PROCESS_FLAGS = frozenset(
    {"--threads", "--max-body-bytes", "--max-silence-s", "--max-step-s", "--log-format"}
)
"""Of the others, those that are fixed when a pod starts and cannot come with a model."""

_NO_FLAG = "!a.startsWith('--')"
_TAKEN = f"a.split('=')[0] in {list(RESERVED_FLAGS)}"
_FLAG_RULES = rules(
    rule(
        f"!self.exists(a, {_NO_FLAG})",
        "must be flags such as --seed=7, was %s",
        f"self.filter(a, {_NO_FLAG})[0]",
    ),
    rule(
        f"!self.exists(a, {_TAKEN})",
        "must not set what fields set, was %s",
        f"self.filter(a, {_TAKEN})[0]",
    ),
)


def _check_flags(flags: list[str]) -> list[str]:
    for flag in flags:
        if not flag.startswith("--"):
            raise ValueError(f"must be flags such as --seed=7, was {flag}")
        if flag.partition("=")[0] in RESERVED_FLAGS:
            raise ValueError(f"must not set what fields set, was {flag}")
    return flags


ExtraArgs = Annotated[
    list[Annotated[str, Field(max_length=256)]],
    Field(
        max_length=32,
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **_FLAG_RULES,
        },
    ),
    AfterValidator(_check_flags),
]


class Quantization(StrEnum):
    """How weights are stored in memory."""

    AUTO = "Auto"
    NONE = "None"
    INT8 = "Int8"
    INT4 = "Int4"
    FP8 = "FP8"


class KvCacheDtype(StrEnum):
    """How the key-value cache is stored in memory."""

    AUTO = "Auto"
    INT8 = "Int8"
    FP8 = "FP8"


class ModelSpec(ApiModel):
    """Which model, and how clients call it."""

    source: Source
    """Where the checkpoint comes from: a Hugging Face repository with an optional branch, tag or
    commit (`hf://org/name@revision`), an object store (`s3://bucket/path`), a web server
    (`https://host/path`), or a folder on a PersistentVolumeClaim of the same namespace
    (`pvc://claim/path`), which is mounted read-only. This release serves `pvc://`."""
    served_name: ServedName | None = None
    """What clients send as `model` in OpenAI requests. Default: the name of this object."""
    quantization: Quantization = Quantization.AUTO
    """How weights are stored in memory. Auto keeps what the checkpoint declares (GPTQ, AWQ,
    compressed-tensors, or nothing); None refuses a quantised checkpoint; Int8, Int4 and FP8
    quantise an unquantised one while loading. A checkpoint quantised beforehand (`stoker quantize`)
    is more accurate and quicker to read. FP8 needs GPUs."""
    secret_ref: SecretReference | None = None
    """Secret with the credentials to fetch the model, in the same namespace. Only the job that
    fetches sees it, never a pod that serves. Not used for `pvc://`."""

    @property
    def parsed_source(self) -> ModelSource:
        """The source taken apart."""
        return parse_source(self.source)


class EngineSpec(ApiModel):
    """How the runtime runs the model. Everything has a default that fits most models."""

    max_model_len: int | None = Field(default=None, ge=16, le=10_000_000)
    """Longest prompt plus answer, in tokens. Default: what the checkpoint declares. Lower it when
    the model does not fit: the cache of one sequence grows with it."""
    max_num_seqs: int | None = Field(default=None, ge=1, le=4096)
    """Sequences that one replica runs at once; further ones wait at the gateway. Default: 32."""
    kv_cache_dtype: KvCacheDtype = KvCacheDtype.AUTO
    """How the key-value cache is stored. Auto uses the dtype of the model; Int8 and FP8 hold about
    twice the tokens in the same memory, on CPUs Int8 nearly four times, at a small loss of
    accuracy. FP8 needs GPUs of compute capability 8.9 or newer."""
    prefix_caching: bool = True
    """Keep the cache of finished prompts and reuse it for requests that begin alike, such as those
    with one system prompt. Answers do not change."""
    tensor_parallel: int | None = Field(default=None, ge=1, le=16)
    """GPUs that one replica splits the model over. Default: all of `resources.gpus`, the only value
    that makes sense; it may be given to be explicit."""
    extra_args: ExtraArgs = Field(default=[])
    """Further flags for the runtime, one word each, such as `--seed=7`. Flags that fields of this
    spec set, such as `--max-model-len`, are refused."""
    image: Image | None = None
    """Container image of the runtime. Default: the one that this release of Stoker was tested with,
    for GPU or CPU as `resources.gpus` asks."""
