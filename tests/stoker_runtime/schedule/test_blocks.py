"""Blocks are conserved whatever happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.schedule.blocks import BlockPool

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
    pool._free.popitem()
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
    assert (len(found), pool.count_free(found)) == (2, 0)
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
    assert pool.count_free(pool.find(name(1, 2))) == 2
    pool.grow("b", 1)
    assert len(pool.find(name(1, 2))) == 2
    pool.grow("b", 2)
    assert len(pool.find(name(1, 2))) == 1
    pool.check_integrity()


def test_of_two_equal_blocks_one_is_found() -> None:
    pool = BlockPool(num_blocks=2, block_size=1)
    for id in "ab":
        pool.grow(id, 1)
        pool.name(id, 0, name(1))
    assert pool.find(name(1)) == list(pool.table("a"))
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
    assert len(pool.find(name(1, 2))) == 1


SHARING = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.sampled_from(["begin", "grow", "name", "forget", "release"]),
        st.integers(0, 5),
        st.integers(0, 1),
    ),
    max_size=60,
)


@given(num_blocks=st.integers(1, 9), operations=SHARING)
def test_conserves_shared_blocks(
    num_blocks: int, operations: list[tuple[str, str, int, int]]
) -> None:
    pool = BlockPool(num_blocks, block_size=1)
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
            case "release":
                pool.release(seq_id)
        pool.check_integrity()
    for seq_id in "abcd":
        pool.release(seq_id)
    assert pool.num_free_blocks == num_blocks
