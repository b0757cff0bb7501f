"""The harness' `volume.py`, without a cluster."""

from pathlib import Path

from e2e.harness.volume import folder_volume


def test_the_claim_and_the_volume_name_each_other() -> None:
    volume, claim = folder_volume("models", Path("/data/models"), namespace="team")
    assert volume["spec"]["hostPath"]["path"] == "/data/models"
    assert volume["spec"]["claimRef"] == {"name": "models", "namespace": "team"}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert claim["metadata"] == {"name": "models", "namespace": "team"}
    assert volume["spec"]["accessModes"] == claim["spec"]["accessModes"] == ["ReadOnlyMany"]
    assert volume["spec"]["storageClassName"] == claim["spec"]["storageClassName"] == ""
