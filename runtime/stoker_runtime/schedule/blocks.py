"""Who holds which block of the KV cache, and what blocks that nobody holds still remember.

Knows block numbers, sequence ids and the names of full blocks; does not know tensors, tokens or the
order of requests. Changed only by the scheduler. A block is held or free; nothing is ever lost.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence


class BlockPool:
    """A fixed number of equal blocks and each sequence's table of them, in token order.

    A full block may get a name that says what it holds. Several sequences may hold a named block at
    once, for nobody writes to it again; when the last one lets go, it is free but can still be
    found, until it is the one that was free the longest and somebody needs a block.
    """

    def __init__(self, num_blocks: int, block_size: int, *, prefix_caching: bool = True) -> None:
        assert num_blocks > 0, f"`num_blocks` must be positive, was {num_blocks}"
        assert block_size > 0, f"`block_size` must be positive, was {block_size}"
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(num_blocks))
        self._num_holders = [0] * num_blocks
        self._tables: dict[str, list[int]] = {}
        self._blocks_by_name: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks without a holder, named or not."""
        return len(self._free)

    @property
    def num_used_blocks(self) -> int:
        """Blocks with a holder, each counted once."""
        return self.num_blocks - len(self._free)

    @property
    def num_named_blocks(self) -> int:
        """Blocks that can be found by name, held or free."""
        return len(self._names)

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

    def find(self, names: Iterable[bytes]) -> list[int]:
        """Blocks of the longest run of names, from the first one on, that are all remembered."""
        found = []
        for name in names:
            if (block := self._blocks_by_name.get(name)) is None:
                break
            found.append(block)
        return found

    def count_free(self, block_ids: Iterable[int]) -> int:
        """How many of these blocks nobody holds."""
        return sum(self._num_holders[block] == 0 for block in block_ids)

    def share(self, seq_id: str, block_ids: Sequence[int]) -> None:
        """Begin the sequence's table with blocks that `find` returned."""
        assert not self._tables.get(seq_id), f"{seq_id} holds blocks already"
        for block in block_ids:
            self._free.pop(block, None)
            self._num_holders[block] += 1
        self._tables[seq_id] = list(block_ids)

    def grow(self, seq_id: str, num_tokens: int) -> bool:
        """Give the sequence room for `num_tokens`; all or nothing, False when blocks run out."""
        missing = self.missing_blocks(seq_id, num_tokens)
        if missing > len(self._free):
            return False
        taken = [self._take() for _ in range(missing)]
        self._tables.setdefault(seq_id, []).extend(taken)
        return True

    def name(self, seq_id: str, first: int, names: Iterable[bytes]) -> None:
        """Remember the sequence's full blocks from entry `first` on; known contents stay where
        they are, so that of two sequences that computed the same only one is found."""
        for block, name in zip(self._tables[seq_id][first:], names, strict=False):
            if name not in self._blocks_by_name and block not in self._names:
                self._blocks_by_name[name] = block
                self._names[block] = name

    def forget(self, seq_id: str) -> tuple[int, ...]:
        """Make what the sequence alone holds unfindable; returns those blocks."""
        sole = [block for block in self._tables.get(seq_id, ()) if self._num_holders[block] == 1]
        for block in sole:
            self._unname(block)
        return tuple(sole)

    def release(self, seq_id: str) -> None:
        """Take back all that the sequence holds; nothing happens if that is nothing.

        Nameless blocks are used again first, then named ones by age; of one sequence the last goes
        first, because blocks before it are of use without it, but not the other way round.
        """
        for block in reversed(self._tables.pop(seq_id, [])):
            self._num_holders[block] -= 1
            if self._num_holders[block] == 0:
                self._free[block] = None
                if block not in self._names:
                    self._free.move_to_end(block, last=False)

    def check_integrity(self) -> None:
        """Every block is free or held, names lead to blocks; called by tests after each step."""
        held = [block for table in self._tables.values() for block in table]
        seen = sorted({*held, *self._free})
        assert seen == list(range(self.num_blocks)), f"blocks lost: {seen}"
        assert not set(held) & set(self._free), "a free block is held"
        counts = Counter(held)
        holders = [counts[block] for block in range(self.num_blocks)]
        assert holders == self._num_holders, f"holders were miscounted: {holders}"
        shared = {block for block, count in counts.items() if count > 1}
        assert shared <= set(self._names), "a block that may be written to is shared"
        turned = {block: name for name, block in self._blocks_by_name.items()}
        assert turned == self._names, "names and blocks disagree"

    def _take(self) -> int:
        block, _ = self._free.popitem(last=False)
        self._unname(block)
        self._num_holders[block] = 1
        return block

    def _unname(self, block: int) -> None:
        if (name := self._names.pop(block, None)) is not None:
            del self._blocks_by_name[name]
