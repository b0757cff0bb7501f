"""The harness' `images.py`, without a cluster."""

from pathlib import Path

import pytest

from e2e.harness.images import PRODUCTS, Target, content_hash
from e2e.harness.settings import REPOSITORY


def test_the_hash_changes_with_names_and_contents(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("ab")
    two.write_text("c")
    before = content_hash(tmp_path, [one, two])
    assert content_hash(tmp_path, [one, two]) == before
    one.write_text("a")
    two.write_text("bc")
    assert content_hash(tmp_path, [one, two]) != before
    assert content_hash(tmp_path, [two]) != content_hash(tmp_path, [one, two])


@pytest.mark.parametrize("target", ["stoker", "cpu", "gpu"])
def test_every_image_is_made_from_files_that_exist(target: Target) -> None:
    product = PRODUCTS[target]
    assert product.lock.is_file()
    assert f" AS {target}\n" in product.containerfile.read_text()
    assert len(product.source_files()) > 5
    assert product.name().startswith(f"docker.io/library/{product.repository}:")


def test_the_runtime_image_does_not_depend_on_the_operators_code() -> None:
    inputs = PRODUCTS["cpu"].source_files()
    assert not [file for file in inputs if file.is_relative_to(REPOSITORY / "operator")]
