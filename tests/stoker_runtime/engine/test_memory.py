"""The cache is as large as the memory allows, and what can't fit is refused with numbers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.config import Config
from stoker_runtime.engine.memory import MemoryPlan, plan_memory
from stoker_runtime.errors import ConfigInvalid, OutOfMemory
from stoker_runtime.model.families import FAMILIES
from stoker_runtime.model.rope import RopeSpec
from stoker_runtime.model.spec import LayerSpec, ModelSpec

GIB = 1 << 30
SPEC = ModelSpec(
    architecture="LlamaForCausalLM",
    family=FAMILIES["LlamaForCausalLM"],
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    layers=(LayerSpec(),) * 30,
    num_heads=9,
    num_kv_heads=3,
    head_dim=64,
    max_position=2048,
    rms_norm_eps=1e-5,
    ropes=(RopeSpec(theta=10000.0, dim=64),),
    tied_embeddings=True,
    score_scale=0.125,
    eos_token_ids=(2,),
)


def plan(available_bytes: int, weight_bytes: int = 269 << 20, **settings: int) -> MemoryPlan:
    config = Config(model=Path("m"), **settings)  # type: ignore[arg-type]
    return plan_memory(SPEC, config, "bfloat16", weight_bytes, available_bytes)


def test_plenty_of_memory_holds_every_slot_at_full_length() -> None:
    assert plan(16 * GIB) == MemoryPlan(num_blocks=32 * 2048 // 16, max_model_len=2048)


def test_codes_hold_nearly_four_times_the_tokens_of_float32() -> None:
    config = Config(model=Path("m"))
    tokens = [
        plan_memory(SPEC, config, dtype, 269 << 20, int(1.1 * GIB)).num_blocks
        for dtype in ("float32", "int8")
    ]
    assert 3.7 < tokens[1] / tokens[0] < 4
    assert SPEC.kv_bytes_per_token("int8") == 12240


def test_less_memory_makes_a_smaller_cache() -> None:
    planned = plan(int(1.1 * GIB))
    tokens = planned.num_blocks * 16
    assert 5000 < tokens < 20000
    assert planned.max_model_len == 2048


def test_a_tiny_cache_shortens_sequences() -> None:
    assert plan(16 * GIB, kv_cache_tokens=100) == MemoryPlan(num_blocks=6, max_model_len=96)


def test_a_wanted_length_counts() -> None:
    assert plan(16 * GIB, max_model_len=512, max_num_seqs=2) == MemoryPlan(64, 512)


@pytest.mark.parametrize(
    ("available_bytes", "settings", "message"),
    [
        (GIB // 2, {"max_model_len": 2048}, "512 MiB are available"),
        (16 * GIB, {"kv_cache_tokens": 10**9}, "1000000000 are needed"),
        (16 * GIB, {"kv_cache_tokens": 512, "max_model_len": 600}, "600 are needed"),
        (16 * GIB, {"kv_cache_tokens": 15}, "16 are needed"),
    ],
    ids=["no room", "cache too large", "length beyond the cache", "less than a block"],
)
def test_refuses_what_does_not_fit(
    available_bytes: int, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(OutOfMemory, match=message) as caught:
        plan(available_bytes, **settings)
    assert "give the pod more memory or lower" in str(caught.value)


def test_a_refusal_shows_its_arithmetic() -> None:
    """40 MiB of activations: 4 · (512 · (4 · 576 + 3 · 1536 + 3 · 576) + 4 · 32 · 49152) bytes."""
    with pytest.raises(OutOfMemory) as caught:
        plan(650 << 20, max_model_len=2048)
    assert (
        "650 MiB are available, 609 MiB are taken by weights (269), activations (40) and processes "
        "(300); 70% of the rest is room for 1278 tokens of KV cache at 23040 bytes, 2048 are needed"
    ) in str(caught.value)


def test_a_refusal_names_what_would_fit() -> None:
    with pytest.raises(OutOfMemory, match=r"675 MiB available, or a `max_model_len` of 1264\.$"):
        plan(650 << 20, max_model_len=2048)
    assert plan(675 << 20, max_model_len=2048).max_model_len == 2048
    assert plan(650 << 20, max_model_len=1264).max_model_len == 1264


def test_where_even_the_weights_do_not_fit_only_memory_helps() -> None:
    with pytest.raises(OutOfMemory, match=r"Would fit: 675 MiB available\.$"):
        plan(GIB // 2, max_model_len=2048)


def test_refuses_a_length_beyond_the_checkpoints() -> None:
    with pytest.raises(ConfigInvalid, match="`max_position_embeddings`, was 4096 > 2048"):
        plan(16 * GIB, max_model_len=4096)


@given(
    available_mib=st.integers(0, 8000),
    weight_mib=st.integers(0, 8000),
    more_mib=st.integers(0, 2000),
)
def test_more_memory_never_makes_less_cache(
    available_mib: int, weight_mib: int, more_mib: int
) -> None:
    sizes = []
    for mib in (available_mib, available_mib + more_mib):
        try:
            sizes.append(plan(mib << 20, weight_mib << 20).num_blocks)
        except OutOfMemory:
            sizes.append(0)
    assert sizes[0] <= sizes[1]
    used = (weight_mib << 20) + sizes[0] * 16 * SPEC.kv_bytes_per_token("bfloat16")
    assert sizes[0] == 0 or used < available_mib << 20
