"""All that is decided about a checkpoint before torch is imported.

Knows the order of refusals: config, files, tensors, memory. Does not know torch or sockets. Called
by `process`, which reads the weights meanwhile; `assembly` does the rest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from stoker_runtime.config import Config
from stoker_runtime.engine.machine import Machine
from stoker_runtime.engine.memory import MemoryPlan, Space, host_space, plan_memory
from stoker_runtime.errors import ConfigInvalid
from stoker_runtime.model.checkpoint import check_tensors, read_headers
from stoker_runtime.model.layout import Fused, ignored_names, plan_layout
from stoker_runtime.model.narrow import narrow_checkpoint, narrow_spec
from stoker_runtime.model.reader import Placed, place_tensors
from stoker_runtime.model.spec import ITEM_BYTES, CacheDtype, Dtype, ModelSpec, read_spec
from stoker_runtime.model.storage import is_product, pick_products, plan_storage
from stoker_runtime.quant.layout import IGNORED
from stoker_runtime.quant.spec import Target

_GROUP = 32
"""The smallest group of columns with scales of their own that is common."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to build, of which bytes, for which device."""

    config: Config
    machine: Machine
    spec: ModelSpec
    layout: tuple[Fused, ...]
    placed: dict[str, Placed]
    device: str
    """cpu or cuda."""
    dtype: Dtype

    @property
    def quantize_to(self) -> Target | None:
        """What the products of an unquantised checkpoint are rounded to."""
        match self.config.quantization:
            case "int8" | "int4" | "fp8":
                return self.config.quantization
            case _:
                return None

    @property
    def is_rounded(self) -> bool:
        """Whether products are kept as codes."""
        return self.spec.quantization is not None or self.quantize_to is not None

    @property
    def num_threads(self) -> int:
        """Processors to compute with."""
        return self.machine.count_threads(self.config.threads)

    @property
    def cache_dtype(self) -> CacheDtype:
        """Of keys and values. On a CPU float32, because attention computes in it.

        Measured with 128 queries and keys of 135M: bfloat16 takes 10.8 ms in Debian's torch 2.6 and
        0.8 ms in 2.15, float32 0.6 ms in both.
        """
        match self.config.kv_cache_dtype:
            case "int8" | "fp8" as rounded:
                return rounded
            case _:
                return "float32" if self.device == "cpu" else self.dtype

    def host_space(self) -> Space:
        """The memory that a model on a CPU has."""
        return host_space(self.spec, self.config, self.machine.available_bytes)

    def plan_memory(self, space: Space, weight_bytes: int | None = None) -> MemoryPlan:
        """Sizes of cache and sequences; raises `OutOfMemory`. Weights: as found, or computed."""
        num_bytes = self.weight_bytes() if weight_bytes is None else weight_bytes
        return plan_memory(self.spec, self.config, self.cache_dtype, num_bytes, space)

    def weight_bytes(self) -> int:
        """As stored, and once more what is converted.

        Products that are unpacked or rounded replace their bytes one after the other, so that the
        larger of the two counts. Panels and what is only looked up stay as they are.
        """
        products = [fused for fused in self.layout if is_product(fused)] if self.is_rounded else []
        names = {part.name.removesuffix(".weight") for fused in products for part in fused.parts}
        of_products = {name for name in self.placed if name.rpartition(".")[0] in names}
        replaced = sum(self.placed[name].tensor.num_bytes for name in of_products)
        made = sum(_rounded_bytes(part.shape) for fused in products for part in fused.parts)
        others = [one for name, one in self.placed.items() if name not in of_products]
        num_bytes = sum(one.tensor.num_bytes for one in others) + max(replaced, made)
        if self.quantize_to:
            return num_bytes + _rounded_bytes((len(self.spec.tokens), self.spec.hidden_size))
        embed = self.placed[self.layout[0].parts[0].name]
        return num_bytes + sum(
            math.prod(one.tensor.shape) * ITEM_BYTES[self.dtype]
            for one in others
            if one.panels is None and one.tensor.torch_dtype != self.dtype
            if one is not embed or self.spec.tied_embeddings
        )


def prepare(config: Config, machine: Machine, *, packs: bool = True) -> Recipe:
    """Read and check everything but the weights themselves.

    packs: products are read into panels where the native library will multiply them.
    """
    spec = read_spec(config.model).stretch_to(config.max_model_len)
    _check_quantization(config, spec)
    stored = read_headers(config.model)
    layout = plan_layout(spec)
    wanted = plan_storage(layout, spec.quantization, stored)
    ignored = IGNORED if spec.quantization else ()
    check_tensors(stored, wanted, (*ignored_names(spec), *ignored))
    if not machine.share.is_whole:
        own = narrow_spec(spec, machine.share)
        spec, stored, layout = own, narrow_checkpoint(spec, own, stored), plan_layout(own)
        wanted = plan_storage(layout, spec.quantization, stored)
    device = _pick_device(config, machine)
    _check_cache(config, device)
    checkpoint_dtype = stored[layout[0].parts[0].name].torch_dtype
    dtype = pick_dtype(config, device, checkpoint_dtype, has_bf16=machine.has_bf16)
    # torch has quick products of its own for networks in bfloat16
    is_native = packs and device == "cpu" and dtype == "float32"
    rounds = config.quantization in ("int8", "int4", "fp8")
    in_panels = pick_products(layout, wanted) if is_native and not rounds else frozenset()
    recipe = Recipe(
        config=config,
        machine=machine,
        spec=spec,
        layout=layout,
        placed=place_tensors(wanted, stored, in_panels),
        device=device,
        dtype=dtype,
    )
    if device == "cpu":
        recipe.plan_memory(recipe.host_space())
    return recipe


def _check_quantization(config: Config, spec: ModelSpec) -> None:
    if spec.quantization is None or config.quantization == "auto":
        return
    raise ConfigInvalid(
        f"`quantization` must be auto for a checkpoint that is quantised already "
        f"({spec.quantization.method}), was {config.quantization!r}"
    )


def _check_cache(config: Config, device: str) -> None:
    if config.kv_cache_dtype == "fp8" and device == "cpu":
        raise ConfigInvalid(
            "`kv_cache_dtype` fp8 needs an NVIDIA GPU of compute capability 8.9 or newer, this "
            "model computes on a CPU: use int8 or auto"
        )


def _rounded_bytes(shape: tuple[int, ...]) -> int:
    """A byte a code, and a scale and a zero in float32 for 32 of them."""
    count = math.prod(shape)
    return count + 8 * -(-count // _GROUP)


def pick_dtype(config: Config, device: str, checkpoint: Dtype, *, has_bf16: bool) -> Dtype:
    """The checkpoint's own on a GPU; on a CPU too if it multiplies it, else float32.

    Measured with 1 thread of a Zen 5, torch 2.15, 576 × 49152 by 8 rows: bfloat16 4.4 ms, float32
    15 ms, float16 22 ms; without the instructions bfloat16 is slower than float32.
    """
    match config.dtype:
        case "float32" | "bfloat16" | "float16":
            return config.dtype
        case _ if device == "cpu" and not (checkpoint == "bfloat16" and has_bf16):
            return "float32"
        case _:
            return checkpoint


def _pick_device(config: Config, machine: Machine) -> str:
    if config.device != "auto":
        return config.device
    return "cuda" if machine.has_gpu else "cpu"
