"""What a decoder does between its products, by kernels: `ops.Ops` for NVIDIA GPUs.

Knows which kernel does what; computes nothing itself. `engine/paged` says which models it fits; the
others stay with torch's implementation as a whole.
"""

from __future__ import annotations

from stoker_runtime.kernels.gpu.gate import gelu_and_multiply as gelu_and_multiply
from stoker_runtime.kernels.gpu.gate import silu_and_multiply as silu_and_multiply
from stoker_runtime.kernels.gpu.moe import group_experts as group_experts
from stoker_runtime.kernels.gpu.norm import add_and_normalise as add_and_normalise
from stoker_runtime.kernels.gpu.turn import turn_and_store as turn_and_store

takes_pages = True
"""See `ops.Ops`."""
