"""Tensors of these tests are made where their kernels run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.gpu import DEVICE


@pytest.fixture(autouse=True)
def _on_the_device() -> Iterator[None]:
    with DEVICE:
        yield
