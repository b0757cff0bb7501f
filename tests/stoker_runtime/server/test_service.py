"""Answers as OpenAI's own client sees them, from the real server and the real engine."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest

from support.runtime_server import MODEL, RuntimeServer

CHAT = "/v1/chat/completions"
COMPLETION = "/v1/completions"
HELLO: list[Any] = [{"role": "user", "content": "hello world"}]


def complete(server: RuntimeServer, **fields: Any) -> Any:
    """A plain completion."""
    body = {"model": MODEL, "prompt": "hello", "max_tokens": 8, "temperature": 0} | fields
    answer = server.request("POST", COMPLETION, body)
    assert answer.status == 200, answer.body
    return answer.json


def events(server: RuntimeServer, path: str, **fields: Any) -> list[dict[str, Any]]:
    """The events of a stream, which must end with `[DONE]`."""
    body = {"model": MODEL, "max_tokens": 8, "temperature": 0, "stream": True} | fields
    answer = server.request("POST", path, body)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"].startswith("text/event-stream")
    *lines, done, end = answer.body.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    return [json.loads(line.removeprefix("data: ")) for line in lines]


def joined(chunks: list[dict[str, Any]], index: int = 0) -> str:
    """The text of one choice of a stream."""
    choices = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
    return "".join(c["text"] if "text" in c else c["delta"].get("content", "") for c in choices)


def test_a_chat_is_answered(server: RuntimeServer) -> None:
    with server.client() as client:
        answer = client.chat.completions.create(
            model=MODEL, messages=HELLO, max_tokens=5, temperature=0
        )
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("length", "stop")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.object == "chat.completion"


def test_a_streamed_chat_says_the_same_as_a_plain_one(server: RuntimeServer) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": HELLO, "max_tokens": 12, "temperature": 0}
    with server.client() as client:
        plain = client.chat.completions.create(**fields)
        stream = client.chat.completions.create(**fields, stream=True)
        chunks = list(stream)
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == (
        plain.choices[0].message.content
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices[0].finish_reason == plain.choices[0].finish_reason
    assert len({(c.id, c.created, c.model) for c in chunks}) == 1


def test_a_streamed_completion_says_the_same_as_a_plain_one(server: RuntimeServer) -> None:
    with server.client() as client:
        plain = client.completions.create(model=MODEL, prompt="one two", temperature=0)
        chunks = list(
            client.completions.create(model=MODEL, prompt="one two", temperature=0, stream=True)
        )
    assert "".join(c.choices[0].text for c in chunks) == plain.choices[0].text
    assert plain.usage is not None
    assert plain.usage.completion_tokens <= 16
    assert {c.object for c in chunks} == {"text_completion"}


def test_the_chunks_come_in_openais_order(server: RuntimeServer) -> None:
    chunks = events(server, CHAT, messages=HELLO, stream_options={"include_usage": True})
    *parts, last, usage = chunks
    assert parts[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in parts)
    assert all(set(chunk["choices"][0]["delta"]) == {"content"} for chunk in parts[1:])
    assert last["choices"][0]["delta"] == {}
    assert last["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 8
    assert all(chunk["usage"] is None for chunk in [*parts, last])


def test_chunks_without_usage_asked_for_have_none(server: RuntimeServer) -> None:
    assert all("usage" not in chunk for chunk in events(server, CHAT, messages=HELLO))


def test_usage_can_come_with_every_chunk(server: RuntimeServer) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = events(server, COMPLETION, prompt="hello", stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == 8


@pytest.mark.parametrize(
    ("prompt", "num_choices"),
    [("hello", 1), (["hello", "one"], 2), ([5, 6, 7], 1), ([[5, 6], [7]], 2)],
    ids=["text", "texts", "ids", "lists of ids"],
)
def test_prompts_come_in_four_shapes(server: RuntimeServer, prompt: Any, num_choices: int) -> None:
    answer = complete(server, prompt=prompt)
    assert [choice["index"] for choice in answer["choices"]] == list(range(num_choices))
    assert answer["usage"]["completion_tokens"] == 8 * num_choices


def test_prompts_of_one_request_are_answered_as_if_alone(server: RuntimeServer) -> None:
    together = complete(server, prompt=["hello", "one", "hello"])["choices"]
    alone = [complete(server, prompt=text)["choices"][0]["text"] for text in ("hello", "one")]
    assert [choice["text"] for choice in together] == [alone[0], alone[1], alone[0]]


def test_n_choices_are_streamed_side_by_side(server: RuntimeServer) -> None:
    fields: dict[str, Any] = {"prompt": ["hello", "one"], "n": 2, "temperature": 1, "seed": 3}
    chunks = events(server, COMPLETION, **fields)
    plain = complete(server, **fields)["choices"]
    assert [joined(chunks, index) for index in range(4)] == [choice["text"] for choice in plain]
    ends = [c["index"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    assert sorted(ends) == [0, 1, 2, 3]


def test_a_seed_repeats_an_answer_and_its_choices_differ(server: RuntimeServer) -> None:
    fields: dict[str, Any] = {"temperature": 1.5, "seed": 42, "n": 3, "max_tokens": 12}
    first, second = (
        [choice["text"] for choice in complete(server, **fields)["choices"]] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) == 3


def test_a_stop_string_ends_the_text_before_it(server: RuntimeServer) -> None:
    whole = complete(server, max_tokens=30)["choices"][0]["text"]
    stop = whole[len(whole) // 2 :][:3]
    cut = complete(server, max_tokens=30, stop=[stop, "never there"])["choices"][0]
    assert cut["text"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"
    kept = complete(server, max_tokens=30, stop=stop, include_stop_str_in_output=True)
    assert kept["choices"][0]["text"] == whole[: whole.index(stop)] + stop


def test_a_stop_string_ends_a_stream_at_the_same_place(server: RuntimeServer) -> None:
    whole = complete(server, max_tokens=30)["choices"][0]["text"]
    stop = whole[len(whole) // 2 :][:3]
    chunks = events(server, COMPLETION, prompt="hello", max_tokens=30, stop=stop)
    assert joined(chunks) == whole[: whole.index(stop)]


def test_nothing_is_lost_when_max_tokens_comes_inside_a_stop_string(server: RuntimeServer) -> None:
    whole = complete(server, max_tokens=8)["choices"][0]["text"]
    chunks = events(server, COMPLETION, prompt="hello", stop=whole[-2:] + "never")
    assert joined(chunks) == whole


def test_a_stop_id_ends_the_answer_and_is_not_shown(server: RuntimeServer) -> None:
    (id,) = server.request("POST", "/tokenize", {"prompt": "z"}).json["tokens"]
    fields: dict[str, Any] = {"logit_bias": {str(id): 100}, "stop_token_ids": [id]}
    answer = complete(server, **fields, logprobs=1)
    assert answer["choices"][0]["text"] == ""
    assert answer["choices"][0]["logprobs"]["tokens"] == []
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] == 1
    kept = complete(server, **fields, include_stop_str_in_output=True)
    assert kept["choices"][0]["text"] == "z"


def test_logprobs_of_a_chat_add_up_to_its_text(server: RuntimeServer) -> None:
    fields: dict[str, Any] = {"messages": HELLO, "logprobs": True, "top_logprobs": 3}
    body = {"model": MODEL, "max_tokens": 8, "temperature": 0} | fields
    choice = server.request("POST", CHAT, body).json["choices"][0]
    content = choice["logprobs"]["content"]
    assert len(content) == 8
    raw = bytes(byte for entry in content for byte in entry["bytes"])
    assert raw.decode("utf-8", "replace") == choice["message"]["content"]
    for entry in content:
        assert entry["logprob"] <= 0
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0]["logprob"] == pytest.approx(entry["logprob"])
    chunks = events(server, CHAT, **fields)
    streamed = [c["logprobs"]["content"] for k in chunks for c in k["choices"] if c["logprobs"]]
    assert [entry["token"] for part in streamed for entry in part] == [e["token"] for e in content]


def test_logprobs_of_a_completion_have_their_own_shape(server: RuntimeServer) -> None:
    choice = complete(server, logprobs=2)["choices"][0]
    found = choice["logprobs"]
    assert len(found["tokens"]) == len(found["token_logprobs"]) == len(found["top_logprobs"]) == 8
    assert found["text_offset"][0] == 0
    assert found["text_offset"] == sorted(found["text_offset"])
    assert all(2 <= len(top) <= 3 for top in found["top_logprobs"])
    for token, logprob, top in zip(*list(found.values())[:3], strict=True):
        assert top[token] == logprob == max(top.values())


def test_the_prompt_is_echoed(server: RuntimeServer) -> None:
    plain = complete(server)["choices"][0]["text"]
    assert complete(server, echo=True)["choices"][0]["text"] == "hello" + plain
    assert joined(events(server, COMPLETION, prompt="hello", echo=True)) == "hello" + plain


def test_logit_bias_chooses_the_token(server: RuntimeServer) -> None:
    (id,) = server.request("POST", "/tokenize", {"prompt": "z"}).json["tokens"]
    answer = complete(server, logit_bias={str(id): 100}, max_tokens=3)
    assert answer["choices"][0]["text"] == "zzz"


def test_min_tokens_holds_a_stop_string_off(server: RuntimeServer) -> None:
    (id,) = server.request("POST", "/tokenize", {"prompt": "z"}).json["tokens"]
    fields: dict[str, Any] = {"logit_bias": {str(id): 100}, "stop": "z"}
    assert complete(server, **fields)["usage"]["completion_tokens"] == 1
    held = complete(server, **fields, min_tokens=5)
    assert held["usage"]["completion_tokens"] == 5


def test_text_parts_are_one_text(server: RuntimeServer) -> None:
    parts = [{"type": "text", "text": "hello"}, {"type": "text", "text": "world"}]
    counts = [
        server.request("POST", "/tokenize", {"messages": [{"role": "user", "content": c}]}).json
        for c in (parts, "hello\nworld")
    ]
    assert counts[0]["tokens"] == counts[1]["tokens"]


def test_max_completion_tokens_wins(server: RuntimeServer) -> None:
    body = {"model": MODEL, "messages": HELLO, "max_tokens": 9, "max_completion_tokens": 4}
    answer = server.request("POST", CHAT, body | {"ignore_eos": True}).json
    assert answer["usage"]["completion_tokens"] == 4


def test_a_chat_may_go_on_to_the_end_of_the_context(server: RuntimeServer) -> None:
    body = {"model": MODEL, "messages": HELLO, "ignore_eos": True}
    answer = server.request("POST", CHAT, body).json
    assert answer["usage"]["total_tokens"] == 512
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        (COMPLETION, {"prompt": "a b " * 600}, "prompt"),
        (COMPLETION, {"prompt": [5] * 512}, "prompt"),
        (COMPLETION, {"prompt": [5] * 500, "max_tokens": 13}, "prompt"),
        (CHAT, {"messages": [{"role": "user", "content": "a b " * 600}]}, "messages"),
        (CHAT, {"messages": HELLO, "max_tokens": 512}, "messages"),
    ],
)
def test_what_does_not_fit_the_context_is_refused(
    server: RuntimeServer, path: str, fields: dict[str, Any], param: str, stream: bool
) -> None:
    answer = server.request("POST", path, {"model": MODEL, "stream": stream} | fields)
    assert answer.status == 400
    assert (answer.error["code"], answer.error["param"]) == ("context_length_exceeded", param)
    assert "maximum context length is 512 tokens" in answer.error["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": [320]}, "prompt"),
        ({"prompt": "x", "logit_bias": {"320": 1}}, "logit_bias"),
        ({"prompt": "x", "stop_token_ids": [320]}, "stop_token_ids"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["x", ""]}, "prompt"),
    ],
)
def test_ids_the_model_does_not_have_are_refused(
    server: RuntimeServer, fields: dict[str, Any], param: str
) -> None:
    answer = server.request("POST", COMPLETION, {"model": MODEL} | fields)
    assert answer.status == 400
    assert answer.error["param"] == param


def test_the_client_maps_our_errors(server: RuntimeServer) -> None:
    with server.client() as client:
        with pytest.raises(openai.NotFoundError) as not_found:
            client.completions.create(model="other", prompt="x")
        with pytest.raises(openai.BadRequestError) as bad:
            client.completions.create(model=MODEL, prompt="x", temperature=3)
    with server.client(api_key="wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()
    assert not_found.value.code == "model_not_found"
    assert bad.value.param == "temperature"
    assert bad.value.request_id is not None


def test_many_at_once_get_what_each_gets_alone(server: RuntimeServer) -> None:
    prompts = [f"{word} {number}" for word in ("hello", "stoker") for number in range(12)]
    alone = [complete(server, prompt=prompt)["choices"][0]["text"] for prompt in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        together = list(pool.map(lambda prompt: complete(server, prompt=prompt), prompts))
    assert [answer["choices"][0]["text"] for answer in together] == alone


def test_parallel_answers_never_share_an_id(server: RuntimeServer) -> None:
    def ask(_: int) -> tuple[str, str]:
        body = {"model": MODEL, "prompt": "x", "max_tokens": 1}
        answer = server.request("POST", COMPLETION, body, headers={"x-request-id": "same"})
        return answer.json["id"], answer.headers["x-request-id"]

    with ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(ask, range(8)))
    assert len({id for id, _ in ids}) == len({request for _, request in ids}) == 8


@pytest.mark.parametrize("num_words", [600, 1_000_000])
def test_a_prompt_too_long_is_refused_at_once_whatever_its_size(
    server: RuntimeServer, num_words: int
) -> None:
    text = "fire " * num_words
    message = {"role": "user", "content": text}
    for path, body in ((COMPLETION, {"prompt": text}), (CHAT, {"messages": [message]})):
        began_at = time.monotonic()
        answer = server.request("POST", path, {"model": MODEL, **body})
        assert answer.error["code"] == "context_length_exceeded"
        assert time.monotonic() - began_at < 2


def test_a_large_text_is_counted_beside_the_loop(server: RuntimeServer) -> None:
    answer = server.request("POST", "/tokenize", {"prompt": "fire " * 20_000})
    assert answer.json["count"] >= 20_000
