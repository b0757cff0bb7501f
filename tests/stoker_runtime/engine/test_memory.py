"""The cache is as large as the memory allows, and what can't fit is refused with numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.config import Config
from stoker_runtime.engine.memory import (
    GpuMemory,
    MemoryPlan,
    Space,
    activation_bytes,
    gpu_space,
    host_space,
    plan_memory,
)
from stoker_runtime.engine.runner import Runner
from stoker_runtime.errors import ConfigInvalid, OutOfMemory
from stoker_runtime.model.families import FAMILIES
from stoker_runtime.model.rope import RopeSpec
from stoker_runtime.model.spec import LayerSpec, ModelSpec
from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence
from stoker_runtime.schedule.step import Chunk
from support.allocations import Allocations
from support.draws import draw
from support.engines import make_model
from support.families import write_family

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
    space = host_space(SPEC, config, available_bytes)
    return plan_memory(SPEC, config, "bfloat16", weight_bytes, space)


def test_plenty_of_memory_holds_every_slot_at_full_length() -> None:
    assert plan(16 * GIB) == MemoryPlan(num_blocks=32 * 2048 // 16, max_model_len=2048)


def test_codes_hold_nearly_four_times_the_tokens_of_float32() -> None:
    config = Config(model=Path("m"))
    tokens = [
        plan_memory(SPEC, config, dtype, 269 << 20, host_space(SPEC, config, int(1.1 * GIB)))
        for dtype in ("float32", "int8")
    ]
    assert 3.7 < tokens[1].num_blocks / tokens[0].num_blocks < 4
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
    ],
    ids=["no room", "cache too large"],
)
def test_refuses_what_does_not_fit(
    available_bytes: int, settings: dict[str, int], message: str
) -> None:
    with pytest.raises(OutOfMemory, match=message) as caught:
        plan(available_bytes, **settings)
    assert "give the pod more memory or lower" in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kv_cache_tokens": 512, "max_model_len": 600}, "≥ 608 .* blocks of 16.*was 512"),
        ({"kv_cache_tokens": 15}, "≥ 16 .*was 15"),
    ],
    ids=["length beyond the cache", "less than a block"],
)
def test_a_cache_that_is_set_too_small_is_no_want_of_memory(
    settings: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigInvalid, match=f"`kv_cache_tokens` must be {message}"):
        plan(16 * GIB, **settings)


@pytest.mark.parametrize(("length", "num_seqs", "blocks"), [(1000, 1, 63), (10, 1, 1), (17, 3, 6)])
def test_every_slot_has_whole_blocks(length: int, num_seqs: int, blocks: int) -> None:
    planned = plan(16 * GIB, max_model_len=length, max_num_seqs=num_seqs)
    assert planned == MemoryPlan(blocks, length)


def test_a_refusal_shows_its_arithmetic() -> None:
    """69 MiB of activations: 24 MiB for draws, and 4 bytes for each of
    512 · (5 · 576 + 3 · 576 + 2 · 192 + 4 · 1536) in the layers and 4 · 32 · 49152 scores."""
    with pytest.raises(OutOfMemory) as caught:
        plan(680 << 20, max_model_len=2048)
    assert (
        "680 MiB are available, 638 MiB are taken by weights (269), activations (69) and processes "
        "(300); 70% of the rest is room for 1314 tokens of KV cache at 23040 bytes, 2048 are needed"
    ) in str(caught.value)


def test_a_refusal_names_what_would_fit() -> None:
    with pytest.raises(OutOfMemory, match=r"704 MiB available, or a `max_model_len` of 1312\.$"):
        plan(680 << 20, max_model_len=2048)
    assert plan(704 << 20, max_model_len=2048).max_model_len == 2048
    assert plan(680 << 20, max_model_len=1312).max_model_len == 1312


def test_where_even_the_weights_do_not_fit_only_memory_helps() -> None:
    with pytest.raises(OutOfMemory, match=r"Would fit: 704 MiB available\.$"):
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


def gpu_plan(free_bytes: int, held_bytes: int, **settings: object) -> tuple[Space, MemoryPlan]:
    """On a GPU of 80 GiB with kernels."""
    config = Config(model=Path("m"), kv_cache_tokens=0, max_num_seqs=256, **settings)  # type: ignore[arg-type]
    config = replace(config, max_batched_tokens=2048)
    memory = GpuMemory(80 * GIB, free_bytes, held_bytes)
    space = gpu_space(LARGE, config, memory, 2, by_kernels=True)
    return space, plan_memory(LARGE, config, "bfloat16", held_bytes, space)


LARGE = replace(
    SPEC,
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    layers=(LayerSpec(),) * 32,
    num_heads=32,
    num_kv_heads=8,
    head_dim=128,
    max_position=131072,
)


def test_a_gpu_is_used_but_for_a_tenth() -> None:
    """Of 80 GiB: 1 GiB of contexts, 15 of weights, 8 free; nearly all of the rest is cache."""
    space, plan = gpu_plan(free_bytes=64 * GIB, held_bytes=15 * GIB)
    assert space.available_bytes == 71 * GIB
    cache = plan.num_blocks * 16 * LARGE.kv_bytes_per_token("bfloat16")
    assert 71 - 15 - 2 < cache / GIB < 71 - 15
    assert space.cache_share == 1.0


def test_what_others_take_of_a_gpu_is_not_planned_with() -> None:
    alone, _ = gpu_plan(free_bytes=64 * GIB, held_bytes=15 * GIB)
    beside, _ = gpu_plan(free_bytes=34 * GIB, held_bytes=15 * GIB)
    assert alone.available_bytes - beside.available_bytes == 30 * GIB


def test_a_gpu_that_others_fill_is_refused_with_numbers() -> None:
    with pytest.raises(OutOfMemory, match=r"activations \(\d+\) and graphs and libraries \(\d+\)"):
        gpu_plan(free_bytes=GIB, held_bytes=15 * GIB)


def test_without_kernels_scores_need_room_too() -> None:
    memory, config = GpuMemory(80 * GIB, 64 * GIB, 15 * GIB), Config(model=Path("m"))
    assert gpu_space(LARGE, config, memory, 4, by_kernels=False).cache_share == 0.7


@given(
    utilization=st.floats(0.01, 1.0),
    free_mib=st.integers(0, 80 << 10),
    held_share=st.floats(0, 1),
)
def test_a_gpu_never_holds_more_than_its_share(
    utilization: float, free_mib: int, held_share: float
) -> None:
    free = free_mib << 20
    held = int((80 * GIB - free) * held_share)
    try:
        space, plan = gpu_plan(free, held, gpu_memory_utilization=utilization)
    except OutOfMemory:
        return
    cache = plan.num_blocks * 16 * LARGE.kv_bytes_per_token("bfloat16")
    ours = held + space.activation_bytes + space.other_bytes + cache
    elsewhere = 80 * GIB - free - held
    assert ours + elsewhere <= 80 * GIB * utilization


@pytest.mark.parametrize("variant", ["llama3", "gemma2", "qwen3", "phi4-partial", "qwen2-moe"])
def test_no_step_takes_more_than_the_formula_says(tmp_path: Path, variant: str) -> None:
    """Counted storage by storage where torch computes, which takes the most; nor much less."""
    sizes = {"hidden_size": 128, "intermediate_size": 352, "moe_intermediate_size": 64}
    write_family(tmp_path, variant, **sizes, num_hidden_layers=2)
    model, config = make_model(tmp_path), Config(model=tmp_path, max_batched_tokens=64)
    runner = Runner(model, num_blocks=8, block_size=16)
    runner._library = None
    with Allocations() as layers:
        runner.compute([Chunk("a", 0, tuple(range(3, 67)), tuple(range(4)), samples=True)])
    of_layers = replace(model.spec, vocab_size=0)
    most = activation_bytes(of_layers, config, 4) - activation_bytes(of_layers, config, 0)
    assert 0.45 * most < layers.peak_bytes <= most


def test_no_draw_takes_more_than_the_formula_says() -> None:
    config, num_seqs = Config(model=Path("m"), max_num_seqs=16), 16
    scores = torch.zeros(num_seqs, SPEC.vocab_size)
    seqs = [Sequence(str(i), (1,), ASKING, seed=i) for i in range(num_seqs)]
    with Allocations() as drawing:
        draw(scores, seqs)
    assert drawing.peak_bytes + scores.nbytes <= activation_bytes(SPEC, config, 0)


ASKING = SamplingParams(max_tokens=2, top_p=0.9, logprobs=3, presence_penalty=0.5, min_tokens=1)
