"""Names of children: short enough for Kubernetes, the same for whoever computes them."""

import re

from stoker_api import names
from stoker_api.v1alpha1 import MAX_NAME

LONGEST = "x" * MAX_NAME
SERVICE_LIMIT = 63


def test_a_pods_name_says_its_deployment_template_and_index() -> None:
    assert names.pod_name("chat", "1a2b3c4d", 0) == "chat-1a2b3c4d-0"


def test_children_of_the_longest_name_are_still_allowed() -> None:
    for child in (names.headless_service_name(LONGEST), names.guard_name(LONGEST)):
        assert len(child) <= SERVICE_LIMIT
    assert len(names.pod_name(LONGEST, "1a2b3c4d", 9)) <= SERVICE_LIMIT


def test_children_have_names_of_their_own() -> None:
    children = {"chat", names.headless_service_name("chat"), names.guard_name("chat")}
    assert len(children) == 3


def test_what_is_ours_lies_under_our_group() -> None:
    ours = (names.LABEL_DEPLOYMENT, names.LABEL_TEMPLATE, names.ANNOTATION_ADDRESS)
    assert all(name.startswith("stoker.dev/") for name in ours)
    assert names.API_VERSION == "stoker.dev/v1alpha1"


def test_every_deployment_has_a_token_purpose_of_its_own() -> None:
    assert names.runtime_purpose("a", "b") != names.runtime_purpose("a/b", "")
    assert re.fullmatch(r"runtime/a/b", names.runtime_purpose("a", "b"))
