"""Operator and runtime never import each other; here their agreement is checked.

A pod is built from an object and its arguments and environment are fed to the runtime's config; the
literals that both sides repeat are compared.
"""

import asyncio
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from stoker_api import names
from stoker_api.demand import Announcement
from stoker_api.engine import PROCESS_FLAGS, RESERVED_FLAGS
from stoker_api.v1alpha1 import LLMDeployment, WarmPool
from stoker_operator.build.adoption import build_load
from stoker_operator.build.frame import PodSettings
from stoker_operator.build.pod import PodOrder, build_pod
from stoker_operator.build.standby import build_standby
from stoker_operator.cluster.admin import Answer, Call, HttpAdminPorts
from stoker_operator.cluster.standby import read_state
from stoker_runtime.config import PROCESS_FIELDS, Config, parse_config
from stoker_runtime.server.announce import Announcer, read_target
from stoker_runtime.server.lifecycle import Lifecycle
from stoker_runtime.server.order import read_order, vacate
from support.checkpoints import write_checkpoint
from support.runtime_server import RuntimeServer, run_server

_SETTINGS = PodSettings(
    image_cpu="runtime:cpu",
    image_gpu="runtime:gpu",
    pull_policy="IfNotPresent",
    drain_deadline_s=600,
    announce_url="http://10.96.0.9:8090/internal/announce",
)
_ENGINES: list[dict[str, Any]] = [
    {},
    {"maxModelLen": 1024, "maxNumSeqs": 8},
    {"maxNumSeqs": 2048},
    {"prefixCaching": False},
    {"extraArgs": ["--block-size=32", "--dtype=float32"]},
]


def _build(spec: dict[str, Any]) -> dict[str, Any]:
    deployment = LLMDeployment.model_validate(
        {"metadata": {"name": "chat", "namespace": "team", "uid": "u-1"}, "spec": spec}
    )
    order = PodOrder("chat-abcd1234-0", "abcd1234", asked_at=1.0, decided_at=1.5)
    return dict(build_pod(deployment, order, _SETTINGS))


def _read_config(pod: dict[str, Any]) -> Config:
    (container,) = pod["spec"]["containers"]
    given = {one["name"]: one.get("value", "given at run time") for one in container["env"]}
    command, *flags = container["args"]
    assert command == "serve"
    return parse_config(flags, given)


@pytest.mark.parametrize("engine", _ENGINES, ids=str)
@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_the_runtime_takes_every_argument_that_the_operator_gives(
    engine: dict[str, Any], gpus: int
) -> None:
    spec = {
        "model": {"source": "pvc://models/tiny", "servedName": "tiny"},
        "engine": engine,
        "resources": {"gpus": gpus, "cpu": "2"},
    }
    config = _read_config(_build(spec))
    assert str(config.model) == "/models/tiny"
    assert config.model_name == "tiny"
    assert config.device == ("cuda" if gpus else "cpu")
    assert config.tensor_parallel == max(1, gpus)
    assert config.max_num_seqs == engine.get("maxNumSeqs", 32)
    assert config.max_model_len == engine.get("maxModelLen", 0)
    assert config.prefix_caching == engine.get("prefixCaching", True)


@pytest.mark.parametrize("quantization", ["Auto", "None", "Int8", "Int4", "FP8"])
def test_the_runtime_quantises_as_the_spec_says(quantization: str) -> None:
    model = {"source": "pvc://models/tiny", "quantization": quantization}
    assert _read_config(_build({"model": model})).quantization == quantization.lower()


@pytest.mark.parametrize("dtype", ["Auto", "Int8", "FP8"])
def test_the_runtime_rounds_keys_and_values_as_the_spec_says(dtype: str) -> None:
    spec = {"model": {"source": "pvc://models/tiny"}, "engine": {"kvCacheDtype": dtype}}
    assert _read_config(_build(spec)).kv_cache_dtype == dtype.lower()


def test_the_pod_tells_the_runtime_who_it_is_and_where_to_announce() -> None:
    config = _read_config(_build({"model": {"source": "pvc://models/tiny"}}))
    assert config.announce_url == _SETTINGS.announce_url
    assert config.deployment == "chat"
    assert config.drain_deadline_s == _SETTINGS.drain_deadline_s - 5
    for known_at_run_time in (config.pod_name, config.namespace, config.pod_ip, config.token):
        assert known_at_run_time == "given at run time"


def test_a_standby_is_one_to_the_runtime() -> None:
    spec = {"resources": {"gpus": 1, "cpu": 2}, "preload": ["pvc://models/a"], "hostMemory": "1Gi"}
    pool = WarmPool.model_validate({"metadata": {"name": "shared"}, "spec": spec})
    config = _read_config(build_standby(pool, "shared-0", "t", ["models"], _SETTINGS))
    assert config.is_standby
    assert config.device == "cuda"
    assert [str(folder) for folder in config.preload_folders] == ["/models/models/a"]
    assert (config.preload_bytes, config.threads) == (2**30, 2)


@pytest.mark.parametrize("engine", _ENGINES, ids=str)
def test_a_standby_that_was_told_to_load_runs_as_a_fresh_pod_would(engine: dict[str, Any]) -> None:
    model = {"source": "pvc://models/tiny", "servedName": "t", "quantization": "Int4"}
    spec = {"model": model, "engine": engine, "resources": {"gpus": 0}}
    metadata = {"name": "chat", "namespace": "team", "uid": "u-1"}
    deployment = LLMDeployment.model_validate({"metadata": metadata, "spec": spec})
    pool = WarmPool.model_validate({"metadata": {"name": "shared"}, "spec": {}})
    vacant = vacate(_read_config(build_standby(pool, "shared-0", "t", ["models"], _SETTINGS)))
    ordered = read_order(json.dumps(build_load(deployment, "k")).encode(), vacant)
    fresh = _read_config(_build(spec))
    differing = {
        field.name
        for field in fields(Config)
        if getattr(ordered, field.name) != getattr(fresh, field.name)
    }
    assert differing <= {"model", "token", "device"}
    assert str(ordered.model) == "/models/models/tiny"


def test_flags_that_no_order_can_carry_are_known_to_the_operator() -> None:
    flags = {"--" + name.replace("_", "-") for name in PROCESS_FIELDS}
    assert flags - set(RESERVED_FLAGS) == PROCESS_FLAGS


def test_ports_of_pod_and_runtime_agree() -> None:
    pod = _build({"model": {"source": "pvc://models/tiny"}})
    (container,) = pod["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    config = _read_config(pod)
    assert ports == {"http": config.port, "admin": config.admin_port}
    assert config.port == names.RUNTIME_PORT
    assert config.admin_port == names.RUNTIME_ADMIN_PORT


def test_an_announcement_of_the_runtime_is_read_by_gateway_and_operator() -> None:
    config = parse_config(
        ["--model=/models/x"],
        {
            "STOKER_NAMESPACE": "team",
            "STOKER_DEPLOYMENT": "chat",
            "STOKER_POD_NAME": "chat-abcd1234-0",
            "STOKER_POD_IP": "10.0.0.7",
            "STOKER_ANNOUNCE_URL": _SETTINGS.announce_url,
        },
    )
    target = read_target(config)
    assert target is not None
    lifecycle = Lifecycle(container_at=12.5, describe_exit=lambda: "ended")
    announced = Announcement.model_validate_json(Announcer(target, lifecycle).render(target))
    assert announced.phase == "Starting"
    assert announced.key == "team/chat"
    assert announced.address == "10.0.0.7:8000"
    assert announced.phases["container"] == 12.5


async def _order(ports: HttpAdminPorts, server: RuntimeServer, path: str, body: str = "") -> Answer:
    """As the operator orders, with the pool's key, while the engine is not up yet as well."""
    call = Call(f"127.0.0.1:{server.admin_port}", path, "pools-key", body)
    async with asyncio.timeout(60):
        while (answer := await ports.call(call)).status == 503:
            await asyncio.sleep(0.05)
    return answer


def _asks(server: RuntimeServer, key: str) -> int:
    headers = {"authorization": f"Bearer {key}"}
    return server.request("GET", "/v1/models", headers=headers).status


async def test_a_real_standby_takes_the_operators_orders_and_forgets_each_models_key(
    tmp_path: Path,
) -> None:
    model = write_checkpoint(tmp_path / "tiny")
    spec = {"model": {"source": "pvc://models/tiny"}, "resources": {"gpus": 0}}
    metadata = {"name": "chat", "namespace": "team", "uid": "u-1"}
    deployment = LLMDeployment.model_validate({"metadata": metadata, "spec": spec})
    order = build_load(deployment, "models-key") | {"model": str(model), "kvCacheTokens": 4096}
    ports = HttpAdminPorts(lambda: True)
    environ = {"STOKER_TOKEN": "pools-key"}
    with run_server(None, tmp_path / "log", "--threads=1", environ=environ) as server:
        server.wait_for("/health", 200)
        loaded = read_state((await _order(ports, server, "/load", json.dumps(order))).body)
        assert (loaded.phase, loaded.path in ("fresh", "warm")) == ("Ready", True)
        again = await _order(ports, server, "/load", json.dumps(order))
        assert again.status == 200, "the same order may be given twice"
        assert (_asks(server, "models-key"), _asks(server, "pools-key")) == (200, 401)
        other = await _order(ports, server, "/load", json.dumps(order | {"seed": 7}))
        assert (other.status, other.body["error"]["code"]) == (409, "conflict")
        left = read_state((await _order(ports, server, "/unload")).body)
        assert (left.phase, left.path) == ("Standby", "")
        assert _asks(server, "models-key") == 401, "the key went with its model"
        wrong = Call(f"127.0.0.1:{server.admin_port}", "/load", "models-key", json.dumps(order))
        assert (await ports.call(wrong)).status == 401
    await ports.close()


@pytest.mark.parametrize("name", ["Containerfile", "Containerfile.runtime"])
def test_an_image_starts_with_a_process_that_hears_signals_from_its_first_instant(
    name: str,
) -> None:
    """As process 1 an interpreter ignores SIGTERM until our handler is there."""
    lines = (Path(__file__).parents[1] / "images" / name).read_text().splitlines()
    entries = [line for line in lines if line.startswith("ENTRYPOINT")]
    assert entries
    assert all(line.startswith('ENTRYPOINT ["tini", "--", ') for line in entries)
