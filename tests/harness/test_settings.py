"""The harness' `settings.py`, without a cluster."""

from pathlib import Path

import pytest

from e2e.harness.settings import HarnessError, Settings


def test_defaults_come_from_the_home_folder() -> None:
    settings = Settings.from_env({"HOME": "/home/me"})
    assert settings.kubeconfig == Path("/home/me/.cache/stoker/clusters/stoker/kubeconfig")
    assert settings.provider is None
    assert not settings.keep


def test_two_clusters_share_the_cache_and_nothing_else() -> None:
    env = {"XDG_CACHE_HOME": "/c", "STOKER_CLUSTER": "local", "STOKER_KEEP_CLUSTER": "1"}
    one = Settings.from_env({**env, "STOKER_CLUSTER_NAME": "one"})
    two = Settings.from_env({**env, "STOKER_CLUSTER_NAME": "two"})
    assert one.cache == two.cache == Path("/c/stoker")
    assert one.cluster_dir != two.cluster_dir
    assert one.provider == "local"
    assert one.keep


@pytest.mark.parametrize("name", ["", "Upper", "under_score", "a" * 21, "a/b"])
def test_bad_cluster_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(HarnessError, match="STOKER_CLUSTER_NAME is"):
        Settings.from_env({"STOKER_CLUSTER_NAME": name})


def test_unknown_providers_are_refused_by_name() -> None:
    with pytest.raises(HarnessError, match="STOKER_CLUSTER is 'minikube'"):
        Settings.from_env({"STOKER_CLUSTER": "minikube"})
