"""The metadata that Stoker reads, and how objects name each other."""

import pytest
from pydantic import ValidationError

from stoker_api.metadata import ObjectMeta, SecretReference, WarmPoolReference


def test_what_the_api_server_sends_is_read_and_the_rest_passes_unseen() -> None:
    sent = {
        "name": "chat",
        "namespace": "shop",
        "uid": "6f1c",
        "generation": 3,
        "resourceVersion": "812",
        "creationTimestamp": "2026-11-21T09:35:00Z",
        "deletionTimestamp": None,
        "labels": {"team": "a"},
        "managedFields": [{"manager": "kubectl"}],
    }
    metadata = ObjectMeta.model_validate(sent)
    assert (metadata.namespace, metadata.generation, metadata.labels) == ("shop", 3, {"team": "a"})
    assert metadata.deletion_timestamp is None


def test_an_object_without_a_namespace_is_in_the_default_one() -> None:
    assert ObjectMeta(name="chat").namespace == "default"


def test_references_are_names() -> None:
    assert SecretReference(name="hub.token").name == "hub.token"
    with pytest.raises(ValidationError, match=r"was hub\.token"):
        WarmPoolReference(name="hub.token")
