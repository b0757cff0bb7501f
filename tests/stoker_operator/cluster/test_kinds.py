"""Paths, keys, versions and instants of manifests."""

from __future__ import annotations

import pytest

from stoker_operator.cluster.kinds import key_of, parse_instant, path_of, version_of


@pytest.mark.parametrize(
    ("where", "path"),
    [
        (("Pod", "ns", "a"), "/api/v1/namespaces/ns/pods/a"),
        (("Pod", "ns"), "/api/v1/namespaces/ns/pods"),
        (("LLMDeployment",), "/apis/stoker.dev/v1alpha1/llmdeployments"),
        (("Lease", "s", "l"), "/apis/coordination.k8s.io/v1/namespaces/s/leases/l"),
    ],
)
def test_paths_of_objects_namespaces_and_kinds(where: tuple[str, ...], path: str) -> None:
    assert path_of(*where) == path


def test_reads_metadata() -> None:
    manifest = {"metadata": {"namespace": "ns", "name": "a", "resourceVersion": "12"}}
    assert (key_of(manifest), version_of(manifest)) == ("ns/a", 12)
    assert version_of({"metadata": {}}) == 0
    assert version_of({"metadata": {"resourceVersion": "abc"}}) == 0


def test_reads_instants() -> None:
    assert parse_instant("2026-11-21T10:00:00Z") == 1795255200.0
    assert parse_instant("2026-11-21T10:00:00.250000Z") == 1795255200.25
    assert parse_instant(None) == 0.0
