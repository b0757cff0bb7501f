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
    start, end = len(names) * block_size, seq.num_known_tokens // block_size * block_size
    if start < end:
        name = names[-1] if names else _digest(seq.salt.encode("utf-8", "surrogatepass"))
        tokens = array("q", seq.slice_tokens(start, end)).tobytes()
        size = len(tokens) // (end - start) * block_size
        for at in range(0, len(tokens), size):
            name = _digest(name + tokens[at : at + size])
            names.append(name)
    return names


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()
