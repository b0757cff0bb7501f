"""What all runtime pods share: images, threads, volumes."""

from __future__ import annotations

import pytest

from stoker_api.placement import PodOverrides, Resources
from stoker_operator.build.frame import (
    Frame,
    PodSettings,
    build_runtime,
    count_threads,
    pick_process_flags,
)

SETTINGS = PodSettings("cpu:1", "gpu:1", "IfNotPresent", 600, "http://10.96.0.7:8090/announce")


@pytest.mark.parametrize(
    ("named", "gpus", "image"), [(None, 0, "cpu:1"), (None, 1, "gpu:1"), ("mine:2", 1, "mine:2")]
)
def test_the_image_is_the_one_named_or_the_releases(
    named: str | None, gpus: int, image: str
) -> None:
    assert SETTINGS.pick_image(named, Resources(gpus=gpus)) == image


@pytest.mark.parametrize(
    ("cpu", "threads"), [(None, None), (4, 4), ("2500m", 2), ("100m", 1), ("1.5k", 1500)]
)
def test_threads_are_whole_and_at_least_one(cpu: int | str | None, threads: int | None) -> None:
    assert count_threads(Resources(gpus=0, cpu=cpu)) == threads


@pytest.mark.parametrize(
    ("gpus", "flags"),
    [
        (0, {"--device": "cpu", "--threads": 4}),
        (1, {"--device": "cuda", "--threads": 4}),
        (8, {"--device": "cuda", "--threads": 4, "--tensor-parallel": 8}),
    ],
)
def test_one_model_is_computed_by_all_gpus(gpus: int, flags: dict[str, str | int]) -> None:
    assert pick_process_flags(Resources(gpus=gpus, cpu=4)) == flags


@pytest.mark.parametrize(("gpus", "has_shm"), [(0, False), (1, False), (2, True)])
def test_several_gpus_have_shared_memory_to_meet_in(gpus: int, has_shm: bool) -> None:
    frame = Frame({}, "i", [], "s", Resources(gpus=gpus), PodOverrides())
    spec = build_runtime(frame, SETTINGS)["spec"]
    volume = {"name": "shm", "emptyDir": {"medium": "Memory"}}
    mount = {"name": "shm", "mountPath": "/dev/shm"}
    assert (volume in spec["volumes"]) is has_shm
    assert (mount in spec["containers"][0]["volumeMounts"]) is has_shm


@pytest.mark.parametrize("deadline_s", [1, 4, 600])
def test_a_stream_hears_of_the_end_before_it_is_cut(deadline_s: int) -> None:
    settings = PodSettings("cpu:1", "gpu:1", "Always", deadline_s, "http://x/announce")
    frame = Frame({"name": "x"}, "cpu:1", ["serve"], "s", Resources(gpus=0), PodOverrides())
    pod = build_runtime(frame, settings)
    env = {one["name"]: one.get("value") for one in pod["spec"]["containers"][0]["env"]}
    assert 1 <= int(env["STOKER_DRAIN_DEADLINE_S"] or 0) <= max(1, deadline_s - 5)


def test_several_claims_are_numbered_for_their_names_may_be_long() -> None:
    claims = {"/models/b": "b" * 200, "/models/a": "a"}
    frame = Frame({}, "i", [], "s", Resources(gpus=0), PodOverrides(), claims)
    spec = build_runtime(frame, SETTINGS)["spec"]
    assert [volume["name"] for volume in spec["volumes"]] == ["model-0", "model-1", "tmp"]
    assert [mount["mountPath"] for mount in spec["containers"][0]["volumeMounts"]] == [
        "/models/a",
        "/models/b",
        "/tmp",
    ]
