"""Block tables arrive as they were sent, whatever came before, and mostly without being sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.engine.orders import Compute, Orders, Tables
from stoker_runtime.schedule.step import Chunk
from stoker_runtime.wire import pack

BLOCKS = st.lists(st.integers(0, 9), max_size=6).map(tuple)
STEPS = st.lists(st.dictionaries(st.sampled_from("abc"), BLOCKS, min_size=1), max_size=8)


def make_chunks(tables: dict[str, tuple[int, ...]]) -> list[Chunk]:
    return [Chunk(id, 3, (7, -2), blocks, samples=True) for id, blocks in tables.items()]


def deliver(sent: Compute) -> Compute:
    """Over the wire."""
    (order,) = Orders().feed(pack(sent))
    assert isinstance(order, Compute)
    return order


@given(STEPS)
def test_chunks_arrive_as_they_were_sent(steps: list[dict[str, tuple[int, ...]]]) -> None:
    here, there = Tables(), Tables()
    for tables in steps:
        chunks = make_chunks(tables)
        assert there.restore(deliver(here.shorten(chunks))) == chunks


def test_only_what_is_new_of_a_table_is_sent() -> None:
    tables = Tables()
    tables.shorten(make_chunks({"a": (1, 2), "b": (5,)}))
    sent = tables.shorten(make_chunks({"a": (1, 2, 3), "b": (6,), "c": (4,)}))
    assert [chunk.block_ids for chunk in sent.chunks] == [(3,), (6,), (4,)]
    assert sent.num_known == [2, 0, 0]
