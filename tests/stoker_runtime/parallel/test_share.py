"""Shares tile what is shared, and differ by one at most."""

from __future__ import annotations

import pytest

from stoker_runtime.parallel.share import WHOLE, Share


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [7, 8, 100, 32001])
def test_shares_tile_the_whole_and_differ_by_one_at_most(total: int, ranks: int) -> None:
    shares = [Share(rank, ranks).cut(total) for rank in range(ranks)]
    assert [place for share in shares for place in share] == list(range(total))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_only_the_first_leads_and_only_one_alone_is_whole() -> None:
    assert [Share(rank, 3).leads for rank in range(3)] == [True, False, False]
    assert (WHOLE.is_whole, Share(0, 2).is_whole) == (True, False)
