"""Random numbers: uniform, reproducible, the same for tensors as for one at a time."""

from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from stoker_runtime.engine.chance import uniform, uniforms


def test_numbers_are_uniform() -> None:
    numbers = [uniform(seed, index) for seed in range(50) for index in range(200)]
    assert all(0 <= number < 1 for number in numbers)
    buckets = Counter(int(number * 10) for number in numbers)
    assert all(900 < buckets[i] < 1100 for i in range(10))


@given(
    pairs=st.lists(
        st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**31)), min_size=1, max_size=20
    )
)
def test_tensors_give_the_same_numbers(pairs: list[tuple[int, int]]) -> None:
    seeds, indices = torch.tensor(pairs).unbind(1)
    assert uniforms(seeds, indices).tolist() == [uniform(*pair) for pair in pairs]
