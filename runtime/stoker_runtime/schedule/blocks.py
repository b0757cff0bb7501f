"""Who holds which block of the KV cache.

Knows block numbers and sequence ids; does not know tensors, tokens' values or the order of
requests. Changed only by the scheduler. A block has one holder or is free; nothing is ever lost.
"""

from __future__ import annotations


class BlockPool:
    """A fixed number of equal blocks and each sequence's table of them, in token order."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        assert num_blocks > 0, f"`num_blocks` must be positive, was {num_blocks}"
        assert block_size > 0, f"`block_size` must be positive, was {block_size}"
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))  # the end is taken first
        self._tables: dict[str, list[int]] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks without a holder."""
        return len(self._free)

    @property
    def num_used_blocks(self) -> int:
        """Blocks with a holder."""
        return self.num_blocks - len(self._free)

    @property
    def capacity_tokens(self) -> int:
        """Tokens that fit when one sequence holds everything."""
        return self.num_blocks * self.block_size

    def table(self, seq_id: str) -> tuple[int, ...]:
        """The sequence's blocks: token `i` is in entry `i // block_size`."""
        return tuple(self._tables.get(seq_id, ()))

    def missing_blocks(self, seq_id: str, num_tokens: int) -> int:
        """Blocks the sequence still needs to hold `num_tokens`; 17 tokens of 16 need 2 blocks."""
        needed = -(-num_tokens // self.block_size)
        return max(0, needed - len(self._tables.get(seq_id, ())))

    def grow(self, seq_id: str, num_tokens: int) -> bool:
        """Give the sequence room for `num_tokens`; all or nothing, False when blocks run out."""
        missing = self.missing_blocks(seq_id, num_tokens)
        if missing > len(self._free):
            return False
        taken = [self._free.pop() for _ in range(missing)]
        self._tables.setdefault(seq_id, []).extend(taken)
        return True

    def release(self, seq_id: str) -> None:
        """Take back all that the sequence holds; nothing happens if that is nothing."""
        self._free.extend(reversed(self._tables.pop(seq_id, [])))

    def check_integrity(self) -> None:
        """Every block is free or held, once; called by tests after each step."""
        held = [block for table in self._tables.values() for block in table]
        seen = sorted(held + self._free)
        assert seen == list(range(self.num_blocks)), f"blocks lost or held twice: {seen}"
