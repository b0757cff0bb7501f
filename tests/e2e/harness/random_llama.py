"""Makes the 135M random Llama that the cold start figures are measured with.

Knows SmolLM-135M's shape and nothing of its weights. `python -m e2e.harness.random_llama FOLDER`
(with `tests` on the path) writes about 269 MB, the same bytes every time; `make e2e` uses it too.
"""

from __future__ import annotations

import sys
from pathlib import Path

from support.checkpoints import LlamaShape, write_checkpoint

RANDOM_LLAMA_135M = LlamaShape(
    vocab_size=49152,
    hidden_size=576,
    intermediate_size=1536,
    num_hidden_layers=30,
    num_attention_heads=9,
    num_key_value_heads=3,
    head_dim=64,
    max_position_embeddings=2048,
    torch_dtype="bfloat16",
    std=0.04,
)


def make_random_llama(folder: Path) -> Path:
    """Write the checkpoint unless the folder already holds it whole."""
    done = folder / ".complete"
    if not done.exists():
        write_checkpoint(folder, RANDOM_LLAMA_135M)
        done.touch()
    return folder


if __name__ == "__main__":
    print(make_random_llama(Path(sys.argv[1])))
