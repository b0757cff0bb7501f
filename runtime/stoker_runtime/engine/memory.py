"""How much KV cache there is room for: arithmetic, no trial run.

Knows sizes in bytes; does not know torch or where the numbers were found. Called by `loading`
before weights are read, so that what can't fit is refused instead of killed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker_runtime.config import Config
from stoker_runtime.errors import ConfigInvalid, OutOfMemory
from stoker_runtime.model.spec import CacheDtype, ModelSpec

_MIB = 1 << 20
_PROCESS_BYTES = 300 * _MIB
"""Both processes besides model and cache: 130 MiB and 60 MiB measured; libraries are page cache."""
_CACHE_SHARE = 0.7
"""Of what weights and activations leave; the rest stays for the kernel and surprises."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Sizes that follow from the spec, the settings and the memory."""

    num_blocks: int
    max_model_len: int
    """Longest prompt plus answer, in tokens."""


def plan_memory(
    spec: ModelSpec,
    config: Config,
    cache_dtype: CacheDtype,
    weight_bytes: int,
    available_bytes: int,
) -> MemoryPlan:
    """Size the cache and the longest sequence; raises `OutOfMemory` with all numbers in it."""
    if config.max_model_len > spec.max_position:
        raise ConfigInvalid(
            "`max_model_len` must be ≤ the checkpoint's `max_position_embeddings`, "
            f"was {config.max_model_len} > {spec.max_position}"
        )
    wanted_len = config.max_model_len or spec.max_position
    activation_bytes = _activation_bytes(spec, config)
    fixed = weight_bytes + activation_bytes + _PROCESS_BYTES
    room = int((available_bytes - fixed) * _CACHE_SHARE)
    per_token = spec.kv_bytes_per_token(cache_dtype)
    fitting = max(0, room) // per_token
    tokens = config.kv_cache_tokens or min(fitting, config.max_num_seqs * wanted_len)
    num_blocks = tokens // config.block_size
    held = num_blocks * config.block_size
    needed = config.max_model_len or config.block_size
    if held < needed or tokens > fitting:
        raise OutOfMemory(
            f"{_mib(available_bytes)} MiB are available, {_mib(fixed)} MiB are taken by weights "
            f"({_mib(weight_bytes)}), activations ({_mib(activation_bytes)}) and processes "
            f"({_mib(_PROCESS_BYTES)}); {_CACHE_SHARE:.0%} of the rest is room for {fitting} "
            f"tokens of KV cache at {per_token} bytes, "
            f"{max(needed, config.kv_cache_tokens)} are needed: give the pod more "
            "memory or lower `max_model_len` or `kv_cache_tokens`. "
            f"Would fit: {_remedies(config, fixed, per_token, needed, fitting)}"
        )
    return MemoryPlan(num_blocks, min(wanted_len, held))


def _remedies(config: Config, fixed: int, per_token: int, needed: int, fitting: int) -> str:
    """What would fit: so much memory, or so short a length, if any is long enough."""
    wanted = max(needed, config.kv_cache_tokens)
    memory = fixed + math.ceil(wanted * per_token / _CACHE_SHARE)
    shorter = fitting // config.block_size * config.block_size
    length = f", or a `max_model_len` of {shorter}" if shorter else ""
    return f"{_mib(memory) + 1} MiB available{length}."


def _activation_bytes(spec: ModelSpec, config: Config) -> int:
    """The largest intermediates in float32: one layer's for a full step, and the logits."""
    per_token = 4 * spec.hidden_size + 3 * spec.intermediate_size + 3 * spec.q_size
    logits = 4 * config.max_num_seqs * spec.vocab_size  # the sampler keeps up to four of that size
    return 4 * (config.max_batched_tokens * per_token + logits)


def _mib(num_bytes: int) -> int:
    return max(0, num_bytes) // _MIB
