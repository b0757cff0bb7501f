"""The grammar of `spec.model.source`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_api.source import FORMS, MAX_LENGTH, ModelSource, parse_source

SEGMENT = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,8}", fullmatch=True)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("hf://meta-llama/Llama-3.2-1B", ModelSource("hf", "meta-llama/Llama-3.2-1B")),
        ("hf://org/name@v1.0", ModelSource("hf", "org/name", revision="v1.0")),
        ("hf://org/name@refs/pr/7", ModelSource("hf", "org/name", revision="refs/pr/7")),
        ("s3://bucket/models/llama", ModelSource("s3", "bucket", "models/llama")),
        ("s3://my.bucket/a/", ModelSource("s3", "my.bucket", "a")),
        ("https://host/llama", ModelSource("https", "host", "llama")),
        ("https://host:8443/a/b.tar", ModelSource("https", "host:8443", "a/b.tar")),
        ("pvc://models", ModelSource("pvc", "models")),
        ("pvc://models/", ModelSource("pvc", "models")),
        ("pvc://models/tiny-chat", ModelSource("pvc", "models", "tiny-chat")),
        ("pvc://models/a/b=1/_c", ModelSource("pvc", "models", "a/b=1/_c")),
    ],
)
def test_takes_a_source_apart(text: str, parts: ModelSource) -> None:
    assert parse_source(text) == parts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "llama",
        "org/name",
        "hf:org/name",
        "hf://name",
        "hf://org/name/more",
        "hf://org/name@",
        "hf://org/name@a/../b",
        "HF://org/name",
        "gs://bucket/path",
        "http://host/path",
        "https://host",
        "https://user:word@host/path",
        "https://host/path?token=x",
        "s3://bucket",
        "s3://b/path",
        "s3://Bucket/path",
        "pvc://Models/x",
        "pvc:///x",
        "pvc://models//x",
        "pvc://models/../x",
        "pvc://models/.hidden",
        "pvc://models/a b",
        "pvc://models/x\n",
        " pvc://models/x",
        "pvc://models/" + "x" * MAX_LENGTH,
    ],
)
def test_refuses_what_is_not_in_the_grammar_by_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="must be hf://") as error:
        parse_source(text)
    assert FORMS in str(error.value)
    assert repr(text) in str(error.value)


@given(SEGMENT, SEGMENT, st.none() | SEGMENT)
def test_a_hub_source_put_together_is_taken_apart_again(
    organisation: str, name: str, revision: str | None
) -> None:
    source = ModelSource("hf", f"{organisation}/{name}", revision=revision or "")
    assert parse_source(str(source)) == source


@given(st.sampled_from(["s3", "https", "pvc"]), st.lists(SEGMENT, min_size=1, max_size=4))
def test_a_path_put_together_is_taken_apart_again(scheme: str, segments: list[str]) -> None:
    source = ModelSource(scheme, "some-place", "/".join(segments))  # type: ignore[arg-type]
    assert parse_source(str(source)) == source
