"""What Prometheus sees."""

from __future__ import annotations

import asyncio

from prometheus_client.parser import text_string_to_metric_families

from stoker_gateway.metrics import Metrics
from support.fake_runtime import FakeRuntime
from support.fake_watch import make_deployment
from support.gateway import Gateway, running_gateway, until


async def samples(gateway: Gateway) -> dict[tuple[str, str], float]:
    """Values by name and all labels."""
    async with gateway.session.get(f"{gateway.internal_url}/metrics") as answer:
        text = await answer.text()
    families = text_string_to_metric_families(text)
    everything = [sample for family in families for sample in family.samples]
    return {(s.name, ",".join(s.labels.values())): s.value for s in everything}


async def test_a_wake_is_measured_from_arrival_to_first_byte() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        asking = asyncio.create_task(gateway.ask().__aenter__())
        await until(lambda: gateway.worker.public.num_running)
        during = await samples(gateway)
        assert during["stoker_gateway_queued", "default/chat"] == 1
        assert during["stoker_gateway_queued_bytes", "default/chat"] == 17
        await asyncio.sleep(0.05)
        await gateway.add(runtime)
        await (await asking).read()
        after = await samples(gateway)
        for name in ("held", "cold_start_wait", "first_byte"):
            assert after[f"stoker_gateway_{name}_seconds_count", "default/chat"] == 1
            assert after[f"stoker_gateway_{name}_seconds_sum", "default/chat"] >= 0.05
        assert after["stoker_gateway_added_seconds_sum", "default/chat"] < 0.05
        assert after["stoker_gateway_queued", "default/chat"] == 0
        assert after["stoker_gateway_announcements_total", "default/chat,Ready"] == 1


async def test_retries_and_hang_ups_are_counted_by_cause() -> None:
    async with running_gateway() as gateway, FakeRuntime(behaviour=["full"]) as runtime:
        await gateway.add(runtime)
        async with gateway.ask() as answer:
            await answer.read()
        runtime.gate = asyncio.Event()
        asking = asyncio.create_task(gateway.ask().__aenter__())
        await until(lambda: runtime.num_running)
        asking.cancel()
        await until(lambda: not gateway.worker.public.num_running)
        values = await samples(gateway)
        assert values["stoker_gateway_retries_total", "full,default/chat"] == 1
        assert values["stoker_gateway_hangups_total", "running,default/chat"] == 1
        assert values["stoker_gateway_requests_total", "499,default/chat"] == 1


async def test_clients_cannot_make_series() -> None:
    async with running_gateway() as gateway:
        before = await samples(gateway)
        for index in range(5):
            async with gateway.ask({"model": f"made-up-{index}"}) as answer:
                assert answer.status == 404
        after = await samples(gateway)
        new = {name for name, _ in after.keys() - before.keys()}
        assert new == {"stoker_gateway_requests_total", "stoker_gateway_requests_created"}
        assert not any("made-up" in labels for _, labels in after)


async def test_the_series_of_a_deleted_deployment_go() -> None:
    async with running_gateway() as gateway, FakeRuntime() as runtime:
        await gateway.cluster.put("deployments", make_deployment("other"))
        await gateway.add(runtime)
        async with gateway.ask() as answer:
            await answer.read()
        metrics: Metrics = gateway.worker.metrics
        assert b"default/chat" in metrics.render()
        lane = gateway.worker.fleet.get("default/chat")
        await gateway.cluster.delete("deployments", make_deployment())
        await gateway.cluster.delete("pods", {"metadata": _pod_metadata()})
        await until(lambda: gateway.worker.fleet.get("default/chat") is None)
        assert lane
        assert b"default/chat" not in metrics.render()
        assert b"default/other" in metrics.render()


def _pod_metadata() -> dict[str, object]:
    labels = {"stoker.dev/deployment": "chat"}
    return {"name": "chat-1", "namespace": "default", "labels": labels}
