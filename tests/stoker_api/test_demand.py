"""The lines between gateway and operator."""

import pytest
from pydantic import ValidationError

from stoker_api.demand import Announcement, Demand, Ping, parse_line

DEMAND = Demand(deployment="ns/chat", queued=3, running=2, idle_s=0.5, arrivals=17, pods={"p": 2})
ANNOUNCEMENT = Announcement(
    namespace="ns",
    deployment="chat",
    pod="chat-1a2b3c4d-0",
    address="10.0.0.7:8000",
    phase="Ready",
    slots=32,
    phases={"container": 1.5},
)


@pytest.mark.parametrize("line", [DEMAND, ANNOUNCEMENT, Ping()], ids=lambda line: line.kind)
def test_a_line_is_read_as_it_was_written(line: Demand | Announcement | Ping) -> None:
    assert parse_line(line.model_dump_json().encode()) == line


def test_a_line_of_the_contract_is_understood() -> None:
    text = (
        b'{"kind":"demand","deployment":"ns/name","queued":3,"running":2,"idle_s":0.0,'
        b'"arrivals":17,"oldest_wait_s":0.4,"pods":{"pod-name":2}}'
    )
    line = parse_line(text)
    assert isinstance(line, Demand)
    assert (line.queued, line.running, line.pods) == (3, 2, {"pod-name": 2})


def test_fields_of_a_newer_peer_are_ignored() -> None:
    assert parse_line(b'{"kind":"ping","mood":"good"}') == Ping()


def test_an_announcement_knows_its_deployments_key() -> None:
    assert ANNOUNCEMENT.key == "ns/chat"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b'{"kind":"shout"}',
        b'{"kind":"demand","deployment":"a/b","queued":-1,"running":0,"idle_s":0,"arrivals":0}',
        ANNOUNCEMENT.model_dump_json().replace("Ready", "Dozing").encode(),
    ],
)
def test_a_broken_line_is_refused(line: bytes) -> None:
    with pytest.raises(ValidationError):
        parse_line(line)
