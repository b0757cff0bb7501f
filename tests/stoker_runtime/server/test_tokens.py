"""`/tokenize` and `/detokenize`, in the shape that vLLM's clients expect."""

from __future__ import annotations

import asyncio
import json
import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker_runtime.server.bodies import TokenizeBody
from stoker_runtime.server.exchange import Exchange, Request
from stoker_runtime.server.openai import read_prompt
from stoker_runtime.server.service import Service
from stoker_runtime.server.texts import load_texts
from stoker_runtime.server.tokens import answer_detokenize, answer_tokenize
from stoker_runtime.text.tokenizer import Tokenizer
from support.runtime_server import ROOT, RuntimeServer

HELLO = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "so be it"}


def tokenize(server: RuntimeServer, **body: Any) -> Any:
    answer = server.request("POST", "/tokenize", body)
    assert answer.status == 200, answer.body
    return answer.json


def text_of(server: RuntimeServer, **body: Any) -> str:
    """What the tokens of a body say."""
    ids = tokenize(server, **body)["tokens"]
    return str(server.request("POST", "/detokenize", {"tokens": ids}).json["prompt"])


def test_a_text_is_counted_and_comes_back(server: RuntimeServer) -> None:
    found = tokenize(server, prompt="hello wörld 😀")
    assert found["count"] == len(found["tokens"])
    assert found["max_model_len"] == 512
    assert found["token_strs"] is None
    assert text_of(server, prompt="hello wörld 😀") == "hello wörld 😀"


def test_tokens_come_as_strings_on_request(server: RuntimeServer) -> None:
    found = tokenize(server, prompt="hello world", return_token_strs=True)
    assert "".join(found["token_strs"]) == "helloĠworld"


def test_a_chat_is_seen_as_the_model_sees_it(server: RuntimeServer) -> None:
    assert text_of(server, messages=[HELLO]) == (
        "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text_of(server, messages=[HELLO], add_generation_prompt=False) == (
        "<|im_start|>user\nhello<|im_end|>\n"
    )


def test_the_last_message_can_stay_open(server: RuntimeServer) -> None:
    text = text_of(server, messages=[HELLO, ANSWER], continue_final_message=True)
    assert text.endswith("<|im_start|>assistant\nso be it")


def test_an_open_answer_is_continued(server: RuntimeServer) -> None:
    prompt = text_of(server, messages=[HELLO, ANSWER], continue_final_message=True)
    fields = {"model": "tiny", "max_tokens": 5, "temperature": 0}
    chat = {"messages": [HELLO, ANSWER], "continue_final_message": True}
    chat |= {"add_generation_prompt": False}
    continued = server.request("POST", "/v1/chat/completions", fields | chat).json
    written = server.request("POST", "/v1/completions", fields | {"prompt": prompt}).json
    assert continued["choices"][0]["message"]["content"] == written["choices"][0]["text"]
    assert continued["usage"]["prompt_tokens"] == written["usage"]["prompt_tokens"]


def test_a_chat_is_taken_as_the_chat_route_takes_it(server: RuntimeServer) -> None:
    plain = text_of(server, messages=[HELLO])
    tools = [{"type": "function", "function": {"name": "f"}}]
    assert text_of(server, messages=[HELLO], tools=tools, tool_choice="none") == plain
    body = TokenizeBody(messages=[HELLO], reasoning_effort="low")
    assert read_prompt(body).extra == {"reasoning_effort": "low"}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [HELLO], "chat_template": "{{ 1 }}"}, "chat_template"),
        ({"messages": [HELLO], "tools": [{"type": "function"}]}, "tools"),
        ({"messages": [HELLO], "tool_choice": "required"}, "tool_choice"),
        (
            {
                "messages": [HELLO, ANSWER],
                "continue_final_message": True,
                "add_generation_prompt": True,
            },
            "continue_final_message",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_counted_is_named(server: RuntimeServer, body: Any, param: str) -> None:
    answer = server.request("POST", "/tokenize", body)
    assert (answer.status, answer.error["param"]) == (400, param)


@pytest.mark.parametrize("tokens", [[10**9], [-1], ["a"], [1.5], "abc", None], ids=str)
def test_ids_that_are_none_are_refused(server: RuntimeServer, tokens: Any) -> None:
    answer = server.request("POST", "/detokenize", {"tokens": tokens})
    assert answer.status == 400
    assert answer.error["param"].startswith("tokens")


def test_another_model_has_no_tokens(server: RuntimeServer) -> None:
    answer = server.request("POST", "/tokenize", {"model": "other", "prompt": "x"})
    assert (answer.status, answer.error["code"]) == (404, "model_not_found")


class Wire:
    """A client that reads everything."""

    paused = False

    def write(self, data: bytes) -> None:
        assert data.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(("num_tokens", "is_quick"), [(20, True), (2000, False)])
def test_long_lists_are_spelled_out_beside_the_streams(
    num_tokens: int, is_quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def spy(method: Any) -> Any:
        def call(*args: Any) -> Any:
            threads.append(threading.current_thread())
            return method(*args)

        return call

    for name in ("decode", "token_text"):
        monkeypatch.setattr(Tokenizer, name, spy(getattr(Tokenizer, name)))
    texts = load_texts(ROOT / "models/tiny-chat")
    service = cast(Service, SimpleNamespace(texts=texts, lifecycle=SimpleNamespace(loaded=None)))
    for answer, body in (
        (answer_detokenize, {"tokens": [7] * num_tokens}),
        (answer_tokenize, {"prompt": "a b" * num_tokens, "return_token_strs": True}),
    ):
        sent = bytearray(json.dumps(body).encode())
        request = Request("POST", "/", False, True, {}, sent)
        asyncio.run(answer(service, Exchange(request, Wire(), keep_alive=True)))
    assert {one is threading.main_thread() for one in threads} == {is_quick}
