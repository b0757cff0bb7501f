"""Names of full blocks: what a block holds, and everything before it.

Knows tokens and hashing; does not know which blocks exist or who holds them. Called by the
scheduler. Hash chains over blocks are the idea of vLLM's automatic prefix caching.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

from stoker_runtime.schedule.sequence import Sequence

_DIGEST_BYTES = 32


def name_blocks(seq: Sequence, block_size: int) -> list[bytes]:
    """One name per full block of prompt and answer so far; each is made once and kept.

    name(i) = blake2b(name(i - 1) + tokens of block i), and the chain begins with the salt: equal
    names mean equal tokens from the very beginning, for the same salt. The hash is cryptographic,
    because a collision would show somebody an answer to another one's prompt.
    """
    names = seq.block_names
    for start in range(len(names) * block_size, seq.num_known_tokens - block_size + 1, block_size):
        parent = names[-1] if names else _digest(seq.salt.encode("utf-8", "surrogatepass"))
        tokens = array("q", seq.slice_tokens(start, start + block_size))
        names.append(_digest(parent + tokens.tobytes()))
    return names


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()
