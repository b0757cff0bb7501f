"""Puts an engine together from a recipe and the bytes of the weights.

Knows torch's settings and every part of the engine; does not know files or sockets. Imported late
by `process`, because it imports torch.
"""

from __future__ import annotations

import logging
import mmap

import torch

from stoker_runtime.engine.engine import Engine
from stoker_runtime.engine.loading import Recipe
from stoker_runtime.engine.memory import MemoryPlan, Space, gpu_space
from stoker_runtime.engine.ranks import ALONE, Peers
from stoker_runtime.engine.runner import Runner
from stoker_runtime.engine.watch import Watch, observe_gpu, observe_peak
from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.kernels.native import find_library
from stoker_runtime.kernels.ops import pick_ops
from stoker_runtime.model.decoder import Decoder, build_decoder
from stoker_runtime.model.spread import spread
from stoker_runtime.model.weights import CACHE_DTYPES, TORCH_DTYPES, WeightPlan, build_weights
from stoker_runtime.parallel.collective import connect
from stoker_runtime.parallel.share import Share
from stoker_runtime.schedule.blocks import BlockPool
from stoker_runtime.schedule.scheduler import Limits, Scheduler
from stoker_runtime.wire import Loaded

log = logging.getLogger(__name__)


def build_model(recipe: Recipe, blob: mmap.mmap, *, owns_blob: bool = False) -> Decoder:
    """The decoder on its device; on a CPU its weights are views of the blob.

    A blob that is owned is empty afterwards where something else was made of it.
    """
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise ConfigInvalid(
            "`device` is cuda (or auto with an NVIDIA device), but torch finds no usable GPU: "
            "use the GPU image, or set `device` to cpu"
        )
    _check_cache(recipe)
    if recipe.device == "cuda":
        _take_gpu(recipe.spec.share)
    torch.set_num_threads(recipe.num_threads)
    plan = WeightPlan(
        dtype=TORCH_DTYPES[recipe.dtype],
        device=torch.device(recipe.device),
        stored_as=recipe.spec.quantization,
        quantize_to=recipe.quantize_to,
        packs=_packs(recipe),
        gpu=has_kernels(recipe),
        owns_blob=owns_blob,
    )
    weights = build_weights(blob, recipe.layout, recipe.placed, plan)
    fits = plan.gpu and _fits_kernels(recipe)
    model = build_decoder(recipe.spec, weights, pick_ops(plan.device, fits_kernels=fits))
    return model if recipe.spec.share.is_whole else spread(model)


def _take_gpu(share: Share) -> None:
    """Each rank has one of its own."""
    if torch.cuda.device_count() < share.ranks:
        raise ConfigInvalid(
            f"`tensor_parallel` must be ≤ the {torch.cuda.device_count()} GPUs there are, "
            f"was {share.ranks}"
        )
    torch.cuda.set_device(share.rank)


def _check_cache(recipe: Recipe) -> None:
    """`loading` refuses it on CPUs."""
    if recipe.cache_dtype != "fp8":
        return
    major, minor = torch.cuda.get_device_capability()
    if (major, minor) < (8, 9):
        raise ConfigInvalid(
            "`kv_cache_dtype` fp8 needs compute capability 8.9 or newer, "
            f"{torch.cuda.get_device_name()} has {major}.{minor}: use int8 or auto"
        )


def has_kernels(recipe: Recipe) -> bool:
    """Whether kernels are compiled for this GPU; without them torch computes everything."""
    if recipe.device != "cuda" or recipe.dtype == "float32":
        return False
    from stoker_runtime.kernels.gpu.driver import find_functions  # not before: a CPU needs none

    try:
        find_functions(torch.cuda.current_device())
    except ConfigInvalid as error:
        log.warning("torch computes what kernels would: %s", error)
        return False
    return True


def _fits_kernels(recipe: Recipe) -> bool:
    from stoker_runtime.engine.paged import fits_kernels  # not before: a CPU needs none of it

    return fits_kernels(recipe.spec, recipe.config.block_size)


def _packs(recipe: Recipe) -> bool:
    """Whether the native library, which sums in float32, may be used; starts its threads."""
    library = find_library()
    if library is None or recipe.device != "cpu" or recipe.dtype == "float16":
        return False
    library.start_threads(recipe.num_threads)
    return True


def build_engine(recipe: Recipe, model: Decoder, peers: Peers = ALONE) -> tuple[Engine, Loaded]:
    """The engine with its cache, and what the API process has to know about it."""
    config = recipe.config
    space, plan, watch = _plan(recipe, model)
    agreed = peers.agree(plan.num_blocks)
    plan = plan.shrink_to(agreed.num_blocks, config.block_size)
    connect(peers.share, agreed.meeting, recipe.device)
    cache_dtype = CACHE_DTYPES[recipe.cache_dtype]
    runner = Runner(model, plan.num_blocks, config.block_size, cache_dtype, config.max_num_seqs)
    runner.peers = peers
    limits = Limits(
        config.max_num_seqs,
        config.max_batched_tokens,
        plan.max_model_len,
        config.max_waiting,
        config.max_waiting_tokens,
    )
    windows = recipe.spec.windows
    pool = BlockPool(
        plan.num_blocks,
        config.block_size,
        prefix_caching=bool(config.prefix_caching),
        max_remembered=-(-config.prefix_cache_tokens // config.block_size) or None,
        window=windows[0] if len(windows) == 1 else 0,
    )
    scheduler = Scheduler(pool, limits)
    loaded = Loaded(
        slots=config.max_num_seqs,
        max_model_len=plan.max_model_len,
        num_kv_blocks=plan.num_blocks,
        block_size=config.block_size,
        vocab_size=recipe.spec.vocab_size,
        eos_token_ids=recipe.spec.eos_token_ids,
        weight_bytes=recipe.weight_bytes(),
        kv_bytes_per_token=recipe.spec.kv_bytes_per_token(recipe.cache_dtype),
        memory_bytes=space.available_bytes,
    )
    overlaps = _overlaps(recipe, model)
    return Engine(runner, scheduler, config.seed, overlaps=overlaps, watch=watch), loaded


def _plan(recipe: Recipe, model: Decoder) -> tuple[Space, MemoryPlan, Watch | None]:
    """On a GPU by what is there now, with the weights, and held to it later."""
    if recipe.device != "cuda":
        space = recipe.host_space()
        return space, recipe.plan_memory(space), None
    memory = observe_gpu()
    by_kernels = model.ops.takes_pages
    space = gpu_space(recipe.spec, recipe.config, memory, model.dtype.itemsize, by_kernels)
    plan = recipe.plan_memory(space, memory.held_bytes)
    tokens = plan.num_blocks * recipe.config.block_size
    cache_bytes = tokens * recipe.spec.kv_bytes_per_token(recipe.cache_dtype)
    planned = memory.held_bytes + space.activation_bytes + space.other_bytes + cache_bytes
    return space, plan, Watch(planned, observe_peak)


def _overlaps(recipe: Recipe, model: Decoder) -> bool:
    """By itself only where kernels draw: torch's way looks at scores, and so waits for them."""
    if recipe.config.overlap == "auto":
        return recipe.device == "cuda" and model.ops.takes_pages
    return recipe.config.overlap == "on"
