"""Snapshots: the policy of a spec, and what counts as a replica."""

from __future__ import annotations

from stoker_operator.decide.observed import Failure, Policy, derive_policy
from support.builders import make_failed, make_llm, make_observed, make_pod, make_ready


def test_a_spec_without_scaling_has_the_defaults() -> None:
    assert derive_policy(make_llm().spec) == Policy()


def test_a_policy_in_seconds_and_slots() -> None:
    scaling = {"minReplicas": 1, "maxReplicas": 3, "idleTimeout": "90s", "coldStartTimeout": "1m"}
    policy = derive_policy(make_llm(scaling=scaling, engine={"maxNumSeqs": 4}).spec)
    assert (policy.min_replicas, policy.max_replicas, policy.slots) == (1, 3, 4)
    assert (policy.idle_timeout_s, policy.cold_start_timeout_s) == (90, 60)


def test_a_fixed_size() -> None:
    assert derive_policy(make_llm(replicas=2).spec).fixed == 2


def test_counts_replicas_by_what_they_can_do() -> None:
    observed = make_observed(
        make_ready("a"), make_pod("b"), make_failed("c"), make_ready("d", terminating=True)
    )
    assert (len(observed.live), observed.ready, observed.starting) == (3, 1, 1)


def test_a_failure_knows_the_condition_that_tells_of_it() -> None:
    assert Failure("CheckpointBroken", "").condition == "ModelAvailable"
    assert Failure("OutOfMemory", "").condition == "Fits"
    assert Failure("SomethingNewer", "").condition == "Progressing"
