"""All that is decided about a checkpoint before torch is imported.

Knows the order of refusals: config, files, tensors, memory. Does not know torch or sockets. Called
by `process`, which reads the weights meanwhile; `assembly` does the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_runtime.config import Config
from stoker_runtime.engine.machine import Machine
from stoker_runtime.engine.memory import MemoryPlan, plan_memory
from stoker_runtime.model.checkpoint import check_tensors, read_headers
from stoker_runtime.model.layout import Fused, ignored_names, plan_layout
from stoker_runtime.model.reader import Placed, place_tensors
from stoker_runtime.model.spec import ITEM_BYTES, Dtype, ModelSpec, read_spec


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
    def num_threads(self) -> int:
        """Processors to compute with."""
        return self.config.threads or self.machine.num_cpus

    @property
    def cache_dtype(self) -> Dtype:
        """Of keys and values. On a CPU float32, because attention computes in it.

        Measured with 128 queries and keys of 135M: bfloat16 takes 10.8 ms in Debian's torch 2.6 and
        0.8 ms in 2.15, float32 0.6 ms in both.
        """
        return "float32" if self.device == "cpu" else self.dtype

    def plan_memory(self, available_bytes: int) -> MemoryPlan:
        """Sizes of cache and sequences; raises `OutOfMemory`."""
        return plan_memory(
            self.spec, self.config, self.cache_dtype, self._weight_bytes(), available_bytes
        )

    def _weight_bytes(self) -> int:
        """As stored, and once more if they are converted."""
        stored = [placed.tensor for placed in self.placed.values()]
        num_bytes = sum(tensor.num_bytes for tensor in stored)
        changed = [tensor for tensor in stored if tensor.torch_dtype != self.dtype]
        added = sum(
            tensor.num_bytes * ITEM_BYTES[self.dtype] // ITEM_BYTES[tensor.torch_dtype]
            for tensor in changed
        )
        return num_bytes + added


def prepare(config: Config, machine: Machine) -> Recipe:
    """Read and check everything but the weights themselves."""
    spec = read_spec(config.model)
    stored = read_headers(config.model)
    layout = plan_layout(spec)
    check_tensors(stored, layout, ignored_names(spec))
    device = _pick_device(config, machine)
    checkpoint_dtype = stored[layout[0].parts[0].name].torch_dtype
    recipe = Recipe(
        config=config,
        machine=machine,
        spec=spec,
        layout=layout,
        placed=place_tensors(layout, stored),
        device=device,
        dtype=pick_dtype(config, device, checkpoint_dtype, has_bf16=machine.has_bf16),
    )
    if device == "cpu":
        recipe.plan_memory(machine.available_bytes)
    return recipe


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
