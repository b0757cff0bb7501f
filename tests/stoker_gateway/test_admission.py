"""Bodies, keys and names at the door."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker_gateway.admission import Directory, Keys, parse_envelope, rename_model
from stoker_gateway.errors import ApiError
from stoker_gateway.target import Target

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def make_target(name: str, namespace: str = "a", served: str = "chat", at: int = 0) -> Target:
    return Target(namespace, name, served, created_at=at)


def make_directory(*targets: Target) -> Directory:
    directory = Directory()
    for target in targets:
        directory.put(target)
    return directory


def test_reads_model_and_stream_and_ignores_the_rest() -> None:
    body = b'{"messages":[{"role":"user","content":"\xc3\xbc"}],"model":"chat","stream":true}'
    envelope = parse_envelope(body)
    assert (envelope.model, envelope.stream) == ("chat", True)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        pytest.param(b"", "invalid_json", None, id="nothing"),
        pytest.param(b"{", "invalid_json", None, id="cut short"),
        pytest.param(b'{"model":"chat"} x', "invalid_json", None, id="something behind it"),
        pytest.param(b'{"model":"chat","x":NaN}', "invalid_json", None, id="not a number"),
        pytest.param(b'{"model":"chat","x":"\xff"}', "invalid_json", None, id="not UTF-8"),
        pytest.param(b'{"model":"chat","x":"\\ud800"}', "invalid_json", None, id="lone surrogate"),
        pytest.param(b'{"model":"chat","x":"\\udc00 "}', "invalid_json", None, id="low surrogate"),
        pytest.param(b'{"model":"\xed\xa0\x80"}', "invalid_json", None, id="surrogate as bytes"),
        pytest.param(b'{"a":' + b"[" * 10**5, "invalid_json", None, id="nested too deeply"),
        pytest.param(b"[]", "invalid_type", None, id="a list"),
        pytest.param(b'"chat"', "invalid_type", None, id="a string"),
        pytest.param(b'{"model":1}', "invalid_type", "model", id="model is a number"),
        pytest.param(b'{"model":"chat","stream":1}', "invalid_type", "stream", id="stream is one"),
        pytest.param(b"{}", "missing_model", "model", id="no model"),
        pytest.param(b'{"model":null}', "missing_model", "model", id="model is null"),
        pytest.param(b'{"model":""}', "missing_model", "model", id="model is empty"),
    ],
)
def test_refuses_a_body_that_is(body: bytes, code: str, param: str | None) -> None:
    with pytest.raises(ApiError) as refused:
        parse_envelope(body)
    error = json.loads(refused.value.body)["error"]
    assert (refused.value.status, error["code"], error["param"]) == (400, code, param)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=5))
def test_accepts_whatever_json_objects_name_a_model(document: dict[str, object]) -> None:
    document |= {"model": "m", "stream": False}
    assert parse_envelope(json.dumps(document).encode()).model == "m"
    assert parse_envelope(json.dumps(document, ensure_ascii=False).encode()).model == "m"


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=5))
def test_renaming_changes_the_model_alone(document: dict[str, object]) -> None:
    before = document | {"model": "ns/name"}
    renamed = rename_model(json.dumps(before).encode(), 'served "name"')
    assert json.loads(renamed) == before | {"model": 'served "name"'}


def test_renaming_keeps_numbers_as_they_were_written() -> None:
    body = b'{"seed":12345678901234567890123,"t":1.10,"model":"a/b"}'
    assert rename_model(body, "c") == b'{"seed":12345678901234567890123,"t":1.10,"model":"c"}'


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        pytest.param(b"Bearer one", True, id="a key"),
        pytest.param(b"bearer two", True, id="scheme in lower case"),
        pytest.param(b"Bearer  one ", True, id="spaces around"),
        pytest.param(b"Bearer three", False, id="another key"),
        pytest.param(b"Bearer ", False, id="no key"),
        pytest.param(b"one", False, id="no scheme"),
        pytest.param(b"Basic one", False, id="another scheme"),
        pytest.param(None, False, id="no header"),
        pytest.param(b"Bearer \xff", False, id="not ASCII"),
    ],
)
def test_accepts_only_known_keys(header: bytes | None, accepted: bool) -> None:
    assert Keys(["one", "two", ""]).accept(header) is accepted


def test_without_configured_keys_everybody_is_welcome() -> None:
    assert Keys(None).accept(None)


def test_with_an_empty_set_of_keys_nobody_is() -> None:
    assert not Keys([]).accept(b"Bearer ")


def test_a_model_is_found_by_served_name_and_by_namespace_and_name() -> None:
    target = make_target("llama", served="meta/llama-3")
    directory = make_directory(target)
    assert directory.resolve("meta/llama-3") is target
    assert directory.resolve("a/llama") is target


def test_an_ambiguous_name_means_the_oldest_deployment() -> None:
    young, old = make_target("x", "a", at=9), make_target("y", "b", at=3)
    directory = make_directory(young, old)
    assert directory.resolve("chat") is old
    assert directory.resolve("a/x") is young
    assert [name for name, _ in directory.listed()] == ["a/x", "chat"]


def test_at_equal_age_the_order_of_names_decides() -> None:
    directory = make_directory(make_target("x", "b"), make_target("x", "a"))
    assert directory.resolve("chat").namespace == "a"


def test_a_served_name_cannot_hide_another_namespaces_deployment() -> None:
    victim, thief = make_target("chat", "a", at=9), make_target("t", "b", served="a/chat", at=1)
    assert make_directory(victim, thief).resolve("a/chat") is victim


def test_the_name_passes_on_when_its_owner_goes() -> None:
    old, young = make_target("x", "a", at=1), make_target("y", "b", at=2)
    directory = make_directory(old, young)
    directory.remove("a/x")
    assert directory.resolve("chat") is young


def test_an_unknown_model_is_told_which_exist() -> None:
    directory = make_directory(*(make_target(f"m{i:02}", served=f"m{i:02}") for i in range(22)))
    with pytest.raises(ApiError, match=r"`gpt` does not exist. Known models: `m00`.* and 2 more"):
        directory.resolve("gpt")
    with pytest.raises(ApiError, match="none yet"):
        Directory().resolve("gpt")
