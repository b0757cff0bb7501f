"""The life of a request: held, released, streamed, retried while that is safe, never lost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import openai
import pytest

from support.fake_runtime import Behaviour, FakeRuntime
from support.fake_watch import make_deployment, make_pod
from support.gateway import Gateway, running_gateway, until

STREAM = {"stream": True}


async def text_of(gateway: Gateway, body: dict[str, Any] | None = None) -> tuple[int, str]:
    async with gateway.ask(body) as answer:
        return answer.status, await answer.text()


def start(gateway: Gateway, body: dict[str, Any] | None = None) -> asyncio.Task[tuple[int, str]]:
    return asyncio.create_task(text_of(gateway, body))


def num_waiting(gateway: Gateway) -> int:
    return sum(len(lane.queue) for lane in gateway.worker.fleet)


async def waiting(gateway: Gateway, num: int = 1) -> None:
    await until(lambda: num_waiting(gateway) == num)


def has_timeout(seconds: str) -> dict[str, Any]:
    return make_deployment(spec={"scaling": {"coldStartTimeout": seconds}})


async def test_a_request_at_zero_is_held_until_a_pod_says_that_it_is_ready() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        async with asyncio.timeout(5):
            asking = asyncio.create_task(gateway.ask(STREAM).__aenter__())
            await waiting(gateway)
            await asyncio.sleep(0.03)
            await gateway.add(runtime)
            answer = await asking
            assert (await answer.text()).endswith("data: [DONE]\n\n")
        assert answer.status == 200
        assert answer.headers["x-stoker-cold-start"] == "fresh"
        assert 30 <= int(answer.headers["x-stoker-queued-ms"]) < 2000
        assert answer.headers["server-timing"].startswith("queue;dur=")
        assert answer.headers["cache-control"] == "no-cache"


async def test_a_request_that_did_not_wait_carries_no_waiting_headers() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        async with gateway.ask() as answer:
            assert "x-stoker-queued-ms" not in answer.headers
            assert "x-stoker-cold-start" not in answer.headers


async def test_never_more_than_the_free_slots_are_released() -> None:
    async with running_gateway() as gateway, FakeRuntime(slots=2, num_tokens=1) as runtime:
        asking = [start(gateway, STREAM) for _ in range(12)]
        await waiting(gateway, 12)
        await gateway.add(runtime)
        answers = await asyncio.wait_for(asyncio.gather(*asking), 5)
        assert {status for status, _ in answers} == {200}
        assert runtime.max_running == 2
        assert len(runtime.seen) == 12


async def test_held_requests_run_in_order_of_arrival() -> None:
    async with running_gateway() as gateway, FakeRuntime(slots=1) as runtime:
        asking = []
        for index in range(5):
            asking.append(start(gateway, {"seed": index}))
            await waiting(gateway, index + 1)
        await gateway.add(runtime)
        await asyncio.gather(*asking)
        assert [body["seed"] for body in runtime.seen] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("refusal", ["full", "loading", "draining", "close"])
async def test_a_request_that_a_pod_did_not_take_is_answered_by_another(
    refusal: Behaviour,
) -> None:
    async with (
        running_gateway() as gateway,
        FakeRuntime(behaviour=[refusal]) as first,
        FakeRuntime() as second,
    ):
        await gateway.add(first, "chat-1")
        asking = start(gateway, STREAM)
        await until(lambda: first.seen)
        await gateway.add(second, "chat-2")
        status, text = await asyncio.wait_for(asking, 5)
        assert status == 200
        assert text.count("[DONE]") == 1


async def test_a_full_pod_is_asked_again_without_news_from_anybody() -> None:
    behaviour: list[Behaviour] = ["full", "full", "full"]
    async with running_gateway() as gateway, FakeRuntime(behaviour=behaviour) as runtime:
        await gateway.add(runtime)
        status, _ = await asyncio.wait_for(text_of(gateway), 5)
        assert status == 200
        assert len(runtime.seen) == 4


async def test_a_newcomer_goes_to_a_full_pod_when_its_pause_is_over_though_others_stay_busy() -> (
    None
):
    """Whoever was refused there went to another, so nobody but the newcomer looks again."""
    busy = FakeRuntime(slots=1, gate=asyncio.Event())
    async with running_gateway() as gateway, FakeRuntime(behaviour=["full"]) as full, busy:
        await gateway.add(full, "chat-0")
        lane = gateway.worker.fleet.get("default/chat")
        assert lane
        [pod] = lane.routes
        pod.pause_s = 0.25
        await gateway.add(busy, "chat-1")
        first = start(gateway)
        await until(lambda: busy.num_running == 1)
        assert (await asyncio.wait_for(text_of(gateway), 5))[0] == 200
        assert len(full.seen) == 2
        first.cancel()


async def test_a_draining_pod_gets_nothing_more() -> None:
    async with running_gateway() as gateway, FakeRuntime(behaviour=["draining"]) as runtime:
        await gateway.add(runtime)
        asking = start(gateway)
        await waiting(gateway)
        await asyncio.sleep(0.15)
        assert len(runtime.seen) == 1
        assert num_waiting(gateway) == 1
        asking.cancel()


async def test_a_pod_that_cannot_be_reached_is_probed_until_it_answers() -> None:
    async with running_gateway(probe_min_s=0.02) as gateway, FakeRuntime() as runtime:
        await gateway.cluster.put("pods", make_pod("chat-1"))
        await gateway.announce("chat-1", "Ready", "127.0.0.1:1", slots=1)
        asking = start(gateway)
        await waiting(gateway)
        lane = gateway.worker.fleet.get("default/chat")
        assert lane
        pod = lane.routes.get("chat-1")
        assert pod
        pod.address = runtime.address
        assert (await asyncio.wait_for(asking, 5))[0] == 200
        assert runtime.num_probes >= 1


async def test_a_request_that_kills_every_pod_ends_after_three() -> None:
    deaths: list[Behaviour] = ["close"] * 9
    async with running_gateway(probe_min_s=0.01) as gateway, FakeRuntime() as runtime:
        runtime.behaviour = deaths
        await gateway.add(runtime)
        status, text = await asyncio.wait_for(text_of(gateway), 5)
        assert (status, json.loads(text)["error"]["code"]) == (502, "upstream_failed")
        assert len(runtime.seen) == 3


async def test_an_idle_connection_that_was_closed_costs_nothing() -> None:
    async with running_gateway() as gateway, FakeRuntime(slots=1) as runtime:
        await gateway.add(runtime)
        await text_of(gateway)
        runtime.behaviour = ["close"]
        status, _ = await asyncio.wait_for(text_of(gateway), 5)
        assert status == 200
        assert runtime.num_probes == 0


async def test_a_stream_that_breaks_off_ends_with_an_error_event() -> None:
    async with running_gateway() as gateway, FakeRuntime(behaviour=["break"]) as runtime:
        await gateway.add(runtime)
        client = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="x", max_retries=0)
        stream = await client.chat.completions.create(model="chat", messages=[], stream=True)
        first = await anext(stream)
        assert first.choices[0].delta.content == "t0 "
        with pytest.raises(openai.APIError, match="before the answer was complete") as broken:
            await anext(stream)
        assert broken.value.code == "upstream_broken_off"
        assert len(runtime.seen) == 1
        await client.close()


async def test_a_client_that_hangs_up_while_held_leaves_the_queue_at_once() -> None:
    async with running_gateway() as gateway:
        asking = start(gateway, STREAM)
        await waiting(gateway)
        asking.cancel()
        await asyncio.wait_for(waiting(gateway, 0), 0.5)
        lane = gateway.worker.fleet.get("default/chat")
        assert lane
        assert not lane.busy


async def test_a_client_that_hangs_up_while_running_stops_the_runtime() -> None:
    async with running_gateway() as gateway, FakeRuntime(num_tokens=1000, pause_s=0.01) as runtime:
        await gateway.add(runtime)
        async with gateway.ask(STREAM) as answer:
            await answer.content.readany()
        await until(lambda: runtime.num_aborted == 1, 1)
        lane = gateway.worker.fleet.get("default/chat")
        assert lane
        assert lane.running == 0


async def test_a_hang_up_frees_the_slot_for_the_next() -> None:
    gate = asyncio.Event()
    async with running_gateway() as gateway, FakeRuntime(slots=1, gate=gate) as runtime:
        await gateway.add(runtime)
        first = start(gateway)
        await until(lambda: runtime.num_running == 1)
        second = start(gateway)
        await waiting(gateway)
        first.cancel()
        gate.set()
        assert (await asyncio.wait_for(second, 5))[0] == 200


async def test_at_the_cold_start_timeout_the_client_is_told_when_to_come_back() -> None:
    async with running_gateway(deploy=False) as gateway:
        conditions = [{"type": "Scheduled", "status": "False", "reason": "Unschedulable"}]
        conditions[0] |= {"message": "No node has a GPU", "observedGeneration": 1}
        deployment = has_timeout("1s") | {"status": {"conditions": conditions}}
        await gateway.cluster.put("deployments", deployment)
        await until(lambda: gateway.worker.fleet.get("default/chat"))
        async with gateway.ask() as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (503, "model_not_ready")
        assert "No node has a GPU (Unschedulable)" in error["message"]
        assert 1 <= int(answer.headers["retry-after"]) <= 120


async def test_beyond_the_bound_requests_are_answered_429() -> None:
    async with running_gateway(max_queued=2) as gateway:
        held = [start(gateway) for _ in range(2)]
        await waiting(gateway, 2)
        async with gateway.ask() as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (429, "queue_full")
        assert answer.headers["retry-after"] == "30"
        for task in held:
            task.cancel()


async def test_a_held_stream_hears_heartbeats_and_then_its_answer() -> None:
    async with running_gateway(heartbeat_after_s=0.05) as gateway, FakeRuntime() as runtime:
        async with gateway.ask(STREAM) as answer:
            assert answer.status == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            assert answer.headers["x-stoker-cold-start"] == "fresh"
            assert await answer.content.readline() == b": waiting\n"
            await gateway.add(runtime)
            rest = await answer.text()
        assert ": queued " in rest
        assert rest.count("data: {") == 4
        assert rest.endswith("data: [DONE]\n\n")


async def test_a_held_whole_answer_hears_nothing_before_it() -> None:
    async with running_gateway(heartbeat_after_s=0.02) as gateway, FakeRuntime() as runtime:
        asking = start(gateway)
        await waiting(gateway)
        await asyncio.sleep(0.06)
        await gateway.add(runtime)
        status, text = await asking
        assert (status, json.loads(text)["object"]) == (200, "chat.completion")


async def test_after_a_heartbeat_errors_are_events() -> None:
    async with running_gateway(heartbeat_after_s=0.02) as gateway, FakeRuntime() as runtime:
        runtime.behaviour = ["error"]
        async with gateway.ask(STREAM) as answer:
            await answer.content.readline()
            await gateway.add(runtime)
            rest = await answer.text()
        event = rest[rest.index("data: ") + 6 :].split("\n")[0]
        assert json.loads(event)["error"]["code"] == "too_long"
        assert rest.endswith("data: [DONE]\n\n")


async def test_after_a_heartbeat_the_timeout_is_an_event() -> None:
    async with running_gateway(deploy=False, heartbeat_after_s=0.05) as gateway:
        await gateway.cluster.put("deployments", has_timeout("1s"))
        await until(lambda: gateway.worker.fleet.get("default/chat"))
        status, text = await text_of(gateway, STREAM)
        assert status == 200
        assert '"code": "model_not_ready"' in text


async def test_a_pod_that_failed_for_good_ends_the_wait_with_its_reason() -> None:
    async with running_gateway() as gateway:
        await gateway.cluster.put("pods", make_pod("chat-1"))
        asking = asyncio.create_task(gateway.ask().__aenter__())
        await waiting(gateway)
        said = {"reason": "CheckpointBroken", "message": "model.safetensors is cut short"}
        await gateway.announce("chat-1", "Failed", **said)
        answer = await asyncio.wait_for(asking, 1)
        error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (503, "model_unavailable")
        assert "model.safetensors is cut short (CheckpointBroken)" in error["message"]
        assert answer.headers["x-should-retry"] == "false"


async def test_a_pod_that_denies_the_gateway_is_not_the_clients_fault() -> None:
    async with running_gateway() as gateway, FakeRuntime(token="another") as runtime:
        await gateway.add(runtime)
        status, text = await text_of(gateway)
        assert (status, json.loads(text)["error"]["code"]) == (502, "upstream_denied")


async def test_a_slow_reader_holds_the_runtime_back_instead_of_filling_memory() -> None:
    async with running_gateway() as gateway, FakeRuntime(num_tokens=200_000) as runtime:
        await gateway.add(runtime)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        body = json.dumps({"model": "chat", "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
        writer.write(head.encode() + b"\r\n\r\n" + body)
        await until(lambda: runtime.num_running == 1)
        await asyncio.sleep(0.5)
        (connection,) = gateway.worker.public.connections
        assert connection._transport.get_write_buffer_size() < 2_000_000
        assert runtime.num_running == 1
        writer.transport.abort()
        await until(lambda: runtime.num_running == 0)
        del reader


async def test_http_1_0_streams_end_with_the_connection() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.add(runtime)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        body = json.dumps({"model": "chat", "stream": True}).encode()
        head = f"POST /v1/chat/completions HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await asyncio.wait_for(reader.read(), 5)
        assert b"chunked" not in answer
        assert answer.endswith(b"data: [DONE]\n\n")
        writer.close()


async def test_two_workers_worth_of_clients_all_get_whole_streams() -> None:
    async with running_gateway() as gateway, FakeRuntime(slots=64, num_tokens=50) as runtime:
        await gateway.add(runtime)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            gateway.session, before = session, gateway.session
            answers = await asyncio.gather(*(text_of(gateway, STREAM) for _ in range(100)))
            gateway.session = before
        assert {text.count("data: {") for _, text in answers} == {50}
        assert {status for status, _ in answers} == {200}
