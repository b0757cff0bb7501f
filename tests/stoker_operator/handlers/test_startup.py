"""Events go into the snapshot, and what they concern into a queue; kopf writes nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import kopf
import pytest

from stoker_operator.cluster.snapshot import Snapshot
from stoker_operator.handlers.children import Children
from stoker_operator.handlers.startup import Intake, build_registry, build_settings, leave
from stoker_operator.handlers.workqueue import WorkQueue
from support.fake_cluster import FakeCluster


class Noted(WorkQueue):
    """A queue that only notes what is put into it."""

    def __init__(self) -> None:
        self.keys: list[str] = []

    def add(self, key: str) -> None:
        """Note it."""
        self.keys.append(key)

    def take(self) -> list[str]:
        """What was noted since the last time."""
        keys, self.keys = self.keys, []
        return keys


@pytest.fixture
def intake() -> Intake:
    """An intake that knows two deployments in two namespaces."""
    snapshot = Snapshot()
    children = Children(FakeCluster(), snapshot, b"key", "gateway")
    intake = Intake(snapshot, children, Noted(), Noted())
    for namespace in ("ns", "other"):
        llm = _object("chat", namespace=namespace, spec={"model": {"source": "pvc://models/x"}})
        intake.take("LLMDeployment", "ADDED", llm, 1)
    _taken(intake)
    return intake


def _object(name: str, version: int = 1, namespace: str = "ns", **more: Any) -> dict[str, Any]:
    labels = {"stoker.dev/deployment": more.pop("of")} if "of" in more else {}
    metadata = {
        "namespace": namespace,
        "name": name,
        "uid": f"uid-{namespace}-{name}",
        "resourceVersion": str(version),
        "labels": labels,
    }
    return {"metadata": metadata, "spec": {}} | more


def _taken(intake: Intake) -> list[str]:
    assert isinstance(intake.deployments, Noted)
    return intake.deployments.take()


def test_a_deployment_concerns_itself_and_old_news_nobody(intake: Intake) -> None:
    intake.take("LLMDeployment", "MODIFIED", _object("chat", 2), 2)
    assert _taken(intake) == ["ns/chat"]
    intake.take("LLMDeployment", None, _object("chat", 2), 2)
    assert _taken(intake) == []
    intake.take("LLMDeployment", "DELETED", _object("chat", 3), 3)
    assert _taken(intake) == ["ns/chat"]


def test_a_pod_concerns_its_deployment(intake: Intake) -> None:
    intake.take("Pod", "ADDED", _object("chat-0", of="chat"), 1)
    assert _taken(intake) == ["ns/chat"]
    intake.take("Pod", "DELETED", _object("chat-0", of="chat"), 1)
    assert _taken(intake) == ["ns/chat"]


def test_a_claim_concerns_the_deployments_that_may_be_on_it(intake: Intake) -> None:
    intake.take("PersistentVolumeClaim", "ADDED", _object("models"), 1)
    assert _taken(intake) == ["ns/chat"]
    intake.take("PersistentVolumeClaim", "ADDED", _object("unrelated"), 1)
    assert _taken(intake) == []


def test_a_deleted_service_is_made_again(intake: Intake) -> None:
    service = _object("chat", of="chat")
    intake.children._taken.add("ns/chat#Service/chat")
    intake.take("Service", "ADDED", service, 1)
    intake.take("Service", "DELETED", service, 1)
    assert intake.children._taken == set()
    assert _taken(intake) == ["ns/chat", "ns/chat"]


def test_what_a_list_finds_without_its_owner_concerns_its_namespace(intake: Intake) -> None:
    intake.touch("Pod", "ns/chat-0")
    assert _taken(intake) == ["ns/chat"]


def test_a_new_leader_looks_at_everything(intake: Intake) -> None:
    intake.take("WarmPool", "ADDED", _object("shared"), 1)
    intake.touch_all()
    assert _taken(intake) == ["ns/chat", "other/chat"]
    assert isinstance(intake.pools, Noted)
    assert intake.pools.take() == ["ns/shared", "ns/shared"]


def test_only_low_level_handlers_are_registered(intake: Intake) -> None:
    registry = build_registry(intake, lambda: 1.0)
    assert len(registry._watching.get_all_handlers()) == 6
    assert not registry._changing.get_all_handlers()
    assert not registry._spawning.get_all_handlers()


async def test_a_handler_hands_the_event_over(intake: Intake) -> None:
    registry = build_registry(intake, lambda: 1.0)
    handlers = {handler.id: handler.fn for handler in registry._watching.get_all_handlers()}
    event = kopf.RawEvent(type="ADDED", object=_object("chat-0", of="chat"))  # type: ignore
    assert await handlers["on_pods"](event=event, more="ignored") is None  # type: ignore
    assert _taken(intake) == ["ns/chat"]


def test_kopf_is_kept_from_writing_under_names_of_its_own() -> None:
    settings = build_settings()
    assert settings.persistence.finalizer == "stoker.dev/finalizer"
    assert not settings.posting.enabled
    assert settings.peering.standalone
    assert settings.scanning.disabled


def _pools(intake: Intake) -> list[str]:
    assert isinstance(intake.pools, Noted)
    return sorted(set(intake.pools.take()))


def test_a_standby_concerns_its_pool_and_an_adopted_pod_both(intake: Intake) -> None:
    standby = _object("shared-t-0")
    standby["metadata"]["labels"] = {"stoker.dev/pool": "shared"}
    intake.take("Pod", "ADDED", standby, 1)
    assert (_taken(intake), _pools(intake)) == ([], ["ns/shared"])
    adopted = _object("shared-t-0", 2, of="chat")
    adopted["metadata"]["labels"]["stoker.dev/pool"] = "shared"
    intake.take("Pod", "MODIFIED", adopted, 1)
    assert (_taken(intake), _pools(intake)) == (["ns/chat"], ["ns/shared"])


def test_a_deployment_concerns_the_pool_that_it_names_and_the_one_it_named(intake: Intake) -> None:
    def named(pool: str, version: int) -> dict[str, Any]:
        return _object("chat", version, spec={"scaling": {"warmPool": {"name": pool}}})

    intake.take("LLMDeployment", "MODIFIED", named("shared", 2), 1)
    assert _pools(intake) == ["ns/shared"]
    intake.take("LLMDeployment", "MODIFIED", named("other", 3), 1)
    assert _pools(intake) == ["ns/other", "ns/shared"]
    intake.take("LLMDeployment", "DELETED", named("other", 4), 1)
    assert _pools(intake) == ["ns/other"]


def test_a_claim_concerns_the_pools_of_its_namespace(intake: Intake) -> None:
    for namespace in ("ns", "other"):
        intake.take("WarmPool", "ADDED", _object("shared", namespace=namespace), 1)
    _pools(intake)
    intake.take("PersistentVolumeClaim", "ADDED", _object("x"), 1)
    assert _pools(intake) == ["ns/shared"]


class Streams:
    """Two nested streams as kopf reads them, of which the outer one closes the inner one."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def watch(self) -> None:
        """Is cancelled between two events, and refers to its own task as kopf's watchers do."""
        task, stream = asyncio.current_task(), self._outer()
        async for _ in stream:
            await asyncio.Event().wait()
        assert task is not None

    async def _outer(self) -> AsyncIterator[int]:
        async with self._inner():
            yield 1
        self.closed.append("never")

    @asynccontextmanager
    async def _inner(self) -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            self.closed.append("inner")


async def test_streams_that_watchers_leave_open_are_closed_when_kopf_has_ended() -> None:
    streams, existing = Streams(), asyncio.all_tasks()

    async def run() -> None:
        watcher = asyncio.create_task(streams.watch())
        try:
            await asyncio.Event().wait()
        finally:
            watcher.cancel()
            await asyncio.wait([watcher])

    running = asyncio.create_task(run())
    await asyncio.sleep(0.01)
    gc.disable()  # it would close both streams at once, as the end of the loop does
    try:
        await leave(running, asyncio.all_tasks() - existing)
        await asyncio.sleep(0.01)
    finally:
        gc.enable()
    assert streams.closed == ["inner"]
