"""Who holds which block of the KV cache, and what blocks that nobody holds still remember.

Knows block numbers, sequence ids and the names of full blocks; does not know tensors, tokens or the
order of requests. Changed only by the scheduler. A block is held or free; nothing is ever lost.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Found:
    """The beginning of a sequence that need not be computed."""

    num_passed: int = 0
    """Blocks that are out of the next token's sight, remembered or not."""
    block_ids: tuple[int, ...] = ()
    """Those that it sees."""

    @property
    def num_blocks(self) -> int:
        """All of them."""
        return self.num_passed + len(self.block_ids)


class BlockPool:
    """A fixed number of equal blocks and each sequence's table of them, in token order.

    A full block may get a name that says what it holds. Several sequences may hold a named block at
    once, for nobody writes to it again; when the last one lets go, it is free but can still be
    found, until it is the one that was free the longest and somebody needs a block, or more than
    `max_remembered` are. Of blocks that can't be found the last to be freed is taken first: it has
    memory already, others may never have been written to.

    With a `window`, a token sees so many tokens, itself included, in all layers; what no later
    token of a sequence sees is let go of, and a beginning is found by what its next token sees.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        *,
        prefix_caching: bool = True,
        max_remembered: int | None = None,
        window: int = 0,
    ) -> None:
        assert num_blocks > 0, f"`num_blocks` must be positive, was {num_blocks}"
        assert block_size > 0, f"`block_size` must be positive, was {block_size}"
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.prefix_caching = prefix_caching
        self._max_remembered = num_blocks if max_remembered is None else max_remembered
        self.window = window
        self._blank = list(range(num_blocks))[::-1]
        self._remembered: OrderedDict[int, None] = OrderedDict()
        self._num_holders = [0] * num_blocks
        self._tables: dict[str, list[int]] = {}
        self._shown: dict[str, tuple[int, ...]] = {}
        """Tables as they were last asked for, while they are still like that."""
        self._num_passed: dict[str, int] = {}
        self._blocks_by_name: dict[bytes, int] = {}
        self._names: dict[int, bytes] = {}

    @property
    def num_free_blocks(self) -> int:
        """Blocks without a holder, named or not."""
        return len(self._blank) + len(self._remembered)

    @property
    def num_used_blocks(self) -> int:
        """Blocks with a holder, each counted once."""
        return self.num_blocks - self.num_free_blocks

    @property
    def num_named_blocks(self) -> int:
        """Blocks that can be found by name, held or free."""
        return len(self._names)

    @property
    def capacity_tokens(self) -> int:
        """Tokens that fit when one sequence holds everything."""
        return self.num_blocks * self.block_size

    def table(self, seq_id: str) -> tuple[int, ...]:
        """The sequence's blocks: token `i` is in entry `i // block_size`.

        Entries that were passed name the first block that is still held: who reads them, only to
        hide what they hold, reads nothing of somebody else. As long as nothing has changed, it is
        the very same tuple.
        """
        shown = self._shown.get(seq_id)
        if shown is None:
            passed, held = self._num_passed.get(seq_id, 0), self._held(seq_id)
            shown = self._shown[seq_id] = (*held[:1] * passed, *held)
        return shown

    def missing_blocks(self, seq_id: str, num_tokens: int) -> int:
        """Blocks the sequence still needs to hold `num_tokens`; 17 tokens of 16 need 2 blocks."""
        needed = -(-num_tokens // self.block_size)
        return max(0, needed - len(self._tables.get(seq_id, ())))

    def find(self, names: Iterable[bytes]) -> Found:
        """The longest beginning whose blocks are remembered, as far as its next token sees them.

        With blocks of 4 and a window of 6, token 12 sees tokens 7 to 12: of three blocks only the
        last two must be here.
        """
        blocks, run_start, count = list[int](), 0, 0
        for index, name in enumerate(names):
            block = self._blocks_by_name.get(name)
            if block is None and not self.window:
                break
            blocks.append(-1 if block is None else block)
            if block is None:
                run_start = index + 1
            elif run_start <= self._count_passed((index + 1) * self.block_size):
                count = index + 1
        passed = self._count_passed(count * self.block_size)
        return Found(passed, tuple(blocks[passed:count]))

    def count_free(self, block_ids: Iterable[int]) -> int:
        """How many of these blocks nobody holds."""
        return sum(self._num_holders[block] == 0 for block in block_ids)

    def share(self, seq_id: str, found: Found) -> None:
        """Begin the sequence's table with what `find` returned."""
        assert not self._tables.get(seq_id), f"{seq_id} holds blocks already"
        for block in found.block_ids:
            self._remembered.pop(block, None)
            self._num_holders[block] += 1
        self._tables[seq_id] = [*[-1] * found.num_passed, *found.block_ids]
        self._num_passed[seq_id] = found.num_passed
        self._shown.pop(seq_id, None)

    def grow(self, seq_id: str, num_tokens: int) -> bool:
        """Give the sequence room for `num_tokens`; all or nothing, False when blocks run out."""
        missing = self.missing_blocks(seq_id, num_tokens)
        if missing > self.num_free_blocks:
            return False
        if missing:
            taken = [self._take() for _ in range(missing)]
            self._tables.setdefault(seq_id, []).extend(taken)
            self._shown.pop(seq_id, None)
        return True

    def name(self, seq_id: str, first: int, names: Iterable[bytes]) -> None:
        """Remember the sequence's full blocks from entry `first` on; known contents stay where
        they are, so that of two sequences that computed the same only one is found."""
        passed = self._num_passed.get(seq_id, 0)
        pairs = zip(self._tables[seq_id][first:], names, strict=False)
        for block, name in list(pairs)[max(0, passed - first) :]:
            if name not in self._blocks_by_name and block not in self._names:
                self._blocks_by_name[name] = block
                self._names[block] = name

    def forget(self, seq_id: str) -> tuple[int, ...]:
        """Make what the sequence alone holds unfindable; returns those blocks."""
        sole = [block for block in self._held(seq_id) if self._num_holders[block] == 1]
        for block in sole:
            self._unname(block)
        return tuple(sole)

    def let_pass(self, seq_id: str, num_tokens: int) -> None:
        """Take back what no token after the first `num_tokens` of the sequence sees."""
        if not self.window:
            return
        before, now = self._num_passed.get(seq_id, 0), self._count_passed(num_tokens)
        if now > before:
            self._let_go(self._tables[seq_id][before:now])
            self._num_passed[seq_id] = now
            self._shown.pop(seq_id, None)

    def release(self, seq_id: str) -> None:
        """Take back all that the sequence holds; nothing happens if that is nothing.

        Nameless blocks are used again first, then named ones by age; of one sequence the last goes
        first, because blocks before it are of use without it, but not the other way round.
        """
        self._let_go(self._held(seq_id)[::-1])
        for known in (self._tables, self._num_passed, self._shown):
            known.pop(seq_id, None)

    def check_integrity(self) -> None:
        """Every block is free or held, names lead to blocks; called by tests after each step."""
        held = [block for seq_id in self._tables for block in self._held(seq_id)]
        for seq_id, shown in self._shown.items():
            passed = self._num_passed.get(seq_id, 0)
            assert list(shown[passed:]) == self._held(seq_id), f"{seq_id} is shown an old table"
        free = [*self._blank, *self._remembered]
        seen = sorted({*held, *free})
        assert seen == list(range(self.num_blocks)), f"blocks lost: {seen}"
        assert len(set(held)) + len(free) == self.num_blocks, "a free block is held, or free twice"
        assert set(self._remembered) <= set(self._names), "a nameless block is remembered"
        assert not set(self._blank) & set(self._names), "a named block is blank"
        assert len(self._remembered) <= self._max_remembered, "too many are remembered"
        counts = Counter(held)
        holders = [counts[block] for block in range(self.num_blocks)]
        assert holders == self._num_holders, f"holders were miscounted: {holders}"
        shared = {block for block, count in counts.items() if count > 1}
        assert shared <= set(self._names), "a block that may be written to is shared"
        turned = {block: name for name, block in self._blocks_by_name.items()}
        assert turned == self._names, "names and blocks disagree"

    def _take(self) -> int:
        if self._blank:
            block = self._blank.pop()
        else:
            block, _ = self._remembered.popitem(last=False)
            self._unname(block)
        self._num_holders[block] = 1
        return block

    def _held(self, seq_id: str) -> list[int]:
        return self._tables.get(seq_id, [])[self._num_passed.get(seq_id, 0) :]

    def _count_passed(self, num_tokens: int) -> int:
        """Blocks before the first one that the token after so many sees."""
        if not self.window:
            return 0
        return max(0, num_tokens - self.window + 1) // self.block_size

    def _let_go(self, block_ids: Iterable[int]) -> None:
        for block in block_ids:
            self._num_holders[block] -= 1
            if self._num_holders[block] == 0 and block in self._names:
                self._remembered[block] = None
            elif self._num_holders[block] == 0:
                self._blank.append(block)
        while len(self._remembered) > self._max_remembered:
            oldest, _ = self._remembered.popitem(last=False)
            self._unname(oldest)
            self._blank.append(oldest)

    def _unname(self, block: int) -> None:
        if (name := self._names.pop(block, None)) is not None:
            del self._blocks_by_name[name]
