"""A pool's protocol against everything at once: what never happens, and how it ends each time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.chaos_world import DEPLOYMENTS, ChaosWorld
from support.pool_world import make_pool, make_warm

Step = tuple[str, int, int]
deployment = st.integers(0, 1)
steps = st.one_of(
    st.tuples(st.just("ask"), deployment, st.sampled_from([0, 1, 40])),
    st.tuples(st.just("ask"), deployment, st.just(1)),
    st.tuples(st.just("rest"), st.just(0), st.just(0)),
    st.tuples(st.just("rest"), st.just(0), st.just(0)),
    st.tuples(st.just("wait"), st.just(0), st.sampled_from([1, 15, 100])),
    st.tuples(st.just("kill"), st.integers(0, 12), st.integers(0, 1)),
    st.tuples(st.just("lose lease"), st.integers(0, 12), st.just(0)),
    st.tuples(st.just("lose pod"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("crash"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("refuse"), st.integers(0, 1), st.just(0)),
    st.tuples(st.just("delete pool"), st.just(0), st.just(0)),
    st.tuples(st.just("apply pool"), st.just(0), st.integers(0, 2)),
    st.tuples(st.just("delete"), deployment, st.just(0)),
    st.tuples(st.just("apply"), deployment, st.just(0)),
)


ACTS: dict[str, Callable[[ChaosWorld, int, int], object]] = {
    "ask": lambda world, which, much: world.ask(DEPLOYMENTS[which], much),
    "rest": lambda world, *_: world.rest(),
    "wait": lambda world, _, much: world.pass_time(much),
    "kill": lambda world, after, taken: world.kill(after, bool(taken)),
    "lose lease": lambda world, after, _: world.lose_lease(after),
    "lose pod": lambda world, which, _: world.hit(which, world.lose_pod),
    "crash": lambda world, which, _: world.hit(which, world.crash),
    "refuse": lambda world, whether, _: world.refuse(bool(whether)),
    "delete pool": lambda world, *_: world.lose("WarmPool", "shared"),
    "apply pool": lambda world, _, size: world.add(make_pool(size={"min": size})),
    "delete": lambda world, which, _: world.lose("LLMDeployment", DEPLOYMENTS[which]),
    "apply": lambda world, which, _: world.add(make_warm(DEPLOYMENTS[which])),
}


async def _play(script: list[Step]) -> ChaosWorld:
    world = ChaosWorld()
    await world.live(4)
    world.ask("chat", 1)
    await world.live(2)
    for step in script:
        what, which, much = step
        ACTS[what](world, which, much)
        await world.live()
    await world.calm_down()
    return world


def _check_end(world: ChaosWorld) -> None:
    """Who waits is served, who does not sleeps, the pool is as large as it should be, no more."""
    num_pods = 0
    for name in DEPLOYMENTS:
        there = ("LLMDeployment", f"ns/{name}") in world.cluster.objects
        waits = name in world.asked and world.asked[name].queued > 0
        serving = world.serving(name)
        assert bool(serving) == (there and waits), name
        assert len(world.of_deployment(name)) == len(serving), "none is left half way"
        num_pods += len(serving)
    pool = world.cluster.objects.get(("WarmPool", "ns/shared"))
    size = pool["spec"]["size"]["min"] if pool is not None else 0
    assert len(world.standbys) == size
    assert len(world.pods) == num_pods + size, "no pod leaks"
    if pool is not None:
        assert world.pool_status.standby == size, "they can be adopted"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, min_size=2, max_size=20))
def test_whatever_happens_the_pool_and_its_deployments_end_as_they_should(
    script: list[Step],
) -> None:
    _check_end(asyncio.run(_play(script)))
