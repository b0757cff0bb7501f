"""Blocks are conserved whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.schedule.blocks import BlockPool, Found

OPERATIONS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.one_of(st.none(), st.integers(0, 90))), max_size=60
)


def test_gives_blocks_for_tokens() -> None:
    pool = BlockPool(num_blocks=4, block_size=16)
    assert pool.grow("a", 16)
    assert len(pool.table("a")) == 1
    assert pool.grow("a", 17)
    assert len(pool.table("a")) == 2
    assert (pool.num_used_blocks, pool.num_free_blocks) == (2, 2)


def test_keeps_the_order_of_a_growing_table() -> None:
    pool = BlockPool(num_blocks=4, block_size=1)
    pool.grow("a", 2)
    before = pool.table("a")
    pool.grow("a", 4)
    assert pool.table("a")[:2] == before


def test_a_table_is_the_same_object_until_it_changes() -> None:
    pool = BlockPool(num_blocks=4, block_size=4, window=4)
    pool.grow("a", 7)
    first = pool.table("a")
    pool.grow("a", 8)
    assert pool.table("a") is first
    pool.grow("a", 9)
    second = pool.table("a")
    assert (len(first), len(second)) == (2, 3)
    pool.let_pass("a", 8)
    assert pool.table("a") == (second[1], *second[1:])
    pool.release("a")
    assert pool.table("a") == ()


def test_never_shrinks_by_growing() -> None:
    pool = BlockPool(num_blocks=4, block_size=1)
    pool.grow("a", 3)
    assert pool.grow("a", 1)
    assert len(pool.table("a")) == 3


def test_gives_all_or_nothing() -> None:
    pool = BlockPool(num_blocks=3, block_size=16)
    pool.grow("a", 20)
    assert not pool.grow("b", 32)
    assert pool.table("b") == ()
    assert pool.num_free_blocks == 1


def test_releases_everything_once() -> None:
    pool = BlockPool(num_blocks=3, block_size=16)
    pool.grow("a", 40)
    pool.release("a")
    pool.release("a")
    pool.check_integrity()
    assert pool.num_free_blocks == 3


def test_holds_its_capacity() -> None:
    pool = BlockPool(num_blocks=3, block_size=16)
    assert pool.grow("a", pool.capacity_tokens)
    assert not pool.grow("a", pool.capacity_tokens + 1)


@pytest.mark.parametrize(("num_blocks", "block_size"), [(0, 16), (4, 0)])
def test_refuses_an_empty_pool(num_blocks: int, block_size: int) -> None:
    with pytest.raises(AssertionError, match="must be positive"):
        BlockPool(num_blocks, block_size)


def test_integrity_check_notices_a_lost_block() -> None:
    pool = BlockPool(num_blocks=3, block_size=16)
    pool._blank.pop()
    with pytest.raises(AssertionError, match="lost"):
        pool.check_integrity()


@given(num_blocks=st.integers(1, 12), block_size=st.integers(1, 16), operations=OPERATIONS)
def test_conserves_blocks(
    num_blocks: int, block_size: int, operations: list[tuple[str, int | None]]
) -> None:
    pool = BlockPool(num_blocks, block_size)
    for seq_id, tokens in operations:
        if tokens is None:
            pool.release(seq_id)
        else:
            free, missing = pool.num_free_blocks, pool.missing_blocks(seq_id, tokens)
            assert pool.grow(seq_id, tokens) is (missing <= free)
        pool.check_integrity()
        assert pool.num_used_blocks + pool.num_free_blocks == num_blocks


def name(*parts: int) -> list[bytes]:
    return [bytes([part]) for part in parts]


def test_shares_what_it_remembers_and_counts_it_once() -> None:
    pool = BlockPool(num_blocks=4, block_size=1)
    pool.grow("a", 3)
    pool.name("a", 0, name(1, 2))
    found = pool.find(name(1, 2, 9))
    assert (found.num_blocks, pool.count_free(found.block_ids)) == (2, 0)
    pool.share("b", found)
    pool.grow("b", 3)
    assert pool.num_used_blocks == 4
    pool.release("a")
    assert (pool.num_used_blocks, pool.num_named_blocks) == (3, 2)
    pool.check_integrity()


def test_what_nobody_holds_is_found_until_it_is_needed() -> None:
    pool = BlockPool(num_blocks=3, block_size=1)
    pool.grow("a", 3)
    pool.name("a", 0, name(1, 2))
    pool.release("a")
    assert pool.count_free(pool.find(name(1, 2)).block_ids) == 2
    pool.grow("b", 1)
    assert pool.find(name(1, 2)).num_blocks == 2
    pool.grow("b", 2)
    assert pool.find(name(1, 2)).num_blocks == 1
    pool.check_integrity()


def test_of_two_equal_blocks_one_is_found() -> None:
    pool = BlockPool(num_blocks=2, block_size=1)
    for id in "ab":
        pool.grow(id, 1)
        pool.name(id, 0, name(1))
    assert pool.find(name(1)).block_ids == pool.table("a")
    pool.release("b")
    pool.check_integrity()
    assert pool.num_named_blocks == 1


def test_forgets_only_what_it_holds_alone() -> None:
    pool = BlockPool(num_blocks=4, block_size=1)
    pool.grow("a", 1)
    pool.name("a", 0, name(1))
    pool.share("b", pool.find(name(1)))
    pool.grow("b", 2)
    pool.name("b", 1, name(2))
    assert pool.forget("b") == pool.table("b")[1:]
    assert pool.find(name(1, 2)).num_blocks == 1


def test_remembers_no_more_than_it_may_and_the_newest_of_them() -> None:
    pool = BlockPool(num_blocks=6, block_size=1, max_remembered=2)
    for id, names in (("a", (1, 2)), ("b", (3, 4))):
        pool.grow(id, 2)
        pool.name(id, 0, name(*names))
        assert pool.find(name(*names)).num_blocks == 2
    pool.release("a")
    assert pool.find(name(1, 2)).num_blocks == 2
    pool.release("b")
    pool.check_integrity()
    assert pool.find(name(1, 2)).num_blocks == 0
    assert pool.find(name(3, 4)).num_blocks == 2
    assert (pool.num_named_blocks, pool.num_free_blocks) == (2, 6)


def test_remembering_nothing_is_allowed() -> None:
    pool = BlockPool(num_blocks=2, block_size=1, max_remembered=0)
    pool.grow("a", 2)
    pool.name("a", 0, name(1, 2))
    pool.release("a")
    pool.check_integrity()
    assert pool.num_named_blocks == 0


def test_memory_that_was_written_to_is_used_again_before_any_other() -> None:
    pool = BlockPool(num_blocks=1000, block_size=1)
    seen = set[int]()
    for turn in range(50):
        pool.grow(f"s{turn}", 3)
        seen |= set(pool.table(f"s{turn}"))
        pool.release(f"s{turn}")
    assert seen == {0, 1, 2}


def test_what_no_later_token_sees_is_let_go() -> None:
    pool = BlockPool(num_blocks=8, block_size=4, window=6)
    pool.grow("a", 16)
    first = pool.table("a")
    for num_tokens, passed in ((8, 0), (9, 1), (12, 1), (13, 2), (16, 2)):
        pool.let_pass("a", num_tokens)
        pool.check_integrity()
        assert pool.num_used_blocks == 4 - passed
        assert pool.table("a") == (first[passed],) * passed + first[passed:]
    pool.release("a")
    pool.check_integrity()
    assert pool.num_used_blocks == 0


def test_a_beginning_is_found_by_what_its_next_token_sees() -> None:
    """Token 16 sees tokens 11 to 16: blocks 2 and 3 of four, token 12 blocks 1 and 2."""
    pool = BlockPool(num_blocks=8, block_size=4, window=6)
    pool.grow("a", 16)
    pool.name("a", 0, name(1, 2, 3, 4))
    blocks = pool.table("a")
    pool.let_pass("a", 16)
    pool.release("a")
    assert pool.find(name(1, 2, 3, 4)) == Found(2, blocks[2:])
    assert pool.find(name(9, 9, 3, 4, 5)) == Found(2, blocks[2:])
    assert pool.find(name(9, 2, 3, 8)) == Found(1, blocks[1:3])
    assert pool.find(name(9, 9, 9, 4)) == Found()
    pool.share("b", pool.find(name(9, 9, 3, 4)))
    assert pool.grow("b", 17)
    assert pool.table("b")[:4] == (blocks[2], blocks[2], *blocks[2:])
    assert pool.num_used_blocks == 3
    pool.let_pass("b", 17)
    pool.release("b")
    pool.check_integrity()


SHARING = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["begin", "grow", "name", "forget", "pass", "release"]),
        st.integers(0, 5),
        st.integers(0, 1),
    ),
    max_size=60,
)


@given(
    num_blocks=st.integers(1, 9),
    operations=SHARING,
    window=st.integers(0, 4),
    remembered=st.sampled_from([None, 0, 1, 3]),
)
def test_conserves_shared_blocks(
    num_blocks: int,
    operations: list[tuple[str, str, int, int]],
    window: int,
    remembered: int | None,
) -> None:
    pool = BlockPool(num_blocks, block_size=1, max_remembered=remembered, window=window)
    for seq_id, action, count, family in operations:
        names = name(*(10 * family + i for i in range(count)))
        match action:
            case "begin" if not pool.table(seq_id):
                pool.share(seq_id, pool.find(names))
            case "grow":
                pool.grow(seq_id, len(pool.table(seq_id)) + count)
            case "name" if pool.table(seq_id):
                pool.name(seq_id, 0, names)
            case "forget":
                pool.forget(seq_id)
            case "pass":
                pool.let_pass(seq_id, min(5 * count, len(pool.table(seq_id))))
            case "release":
                pool.release(seq_id)
        pool.check_integrity()
    for seq_id in "abcd":
        pool.release(seq_id)
    assert pool.num_free_blocks == num_blocks
