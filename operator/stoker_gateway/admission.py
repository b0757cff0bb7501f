"""Who may come in: the `model` of a body, API keys, and which deployment a model name means.

Knows bytes, names and digests; no sockets, no clock, no files. Called by `app` for every request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from stoker_gateway import errors
from stoker_gateway.target import Target


class Envelope(msgspec.Struct):
    """What the gateway reads of a request's body; everything else is the runtime's business."""

    model: str | None = None
    stream: bool | None = None


_envelopes = msgspec.json.Decoder(Envelope)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])


def parse_envelope(body: bytes) -> Envelope:
    """The model and stream members of a JSON object. Raises `ApiError`."""
    try:
        if not body.isascii():
            body.decode()
        envelope = _envelopes.decode(body)
    except msgspec.ValidationError as error:
        raise _mistyped(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        text = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        message = f"The request body is not valid JSON: {text}."
        raise errors.bad_request(message, "invalid_json") from error
    if not envelope.model:
        message = "The request must name a `model`."
        raise errors.bad_request(message, "missing_model", param="model")
    return envelope


def _mistyped(text: str) -> errors.ApiError:
    member = text.rpartition("$.")[2].rstrip("`") if "$." in text else None
    message = f"The request body is not an OpenAI request: {text}."
    return errors.bad_request(message, "invalid_type", param=member)


def rename_model(body: bytes, served_name: str) -> bytes:
    """The same body with another `model`, every other member byte for byte as it was."""
    members = _members.decode(body)
    members["model"] = msgspec.Raw(msgspec.json.encode(served_name))
    return msgspec.json.encode(members)


class Keys:
    """The accepted API keys, as digests: finding one takes the same time for all."""

    def __init__(self, keys: Iterable[str] | None) -> None:
        digests = None if keys is None else {_digest(key.encode()) for key in keys if key}
        self._digests = digests

    def accept(self, authorization: bytes | None) -> bool:
        """Whether an `Authorization` header carries a key; always, when none are configured."""
        if self._digests is None:
            return True
        scheme, _, key = (authorization or b"").partition(b" ")
        return scheme.lower() == b"bearer" and _digest(key.strip()) in self._digests


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


class Directory:
    """All deployments by the names that clients use.

    `namespace/name` always means that deployment. A served name that several deployments have means
    the oldest of them, so that nobody can take a name over by using it as well.
    """

    def __init__(self) -> None:
        self._targets: dict[str, Target] = {}
        self._owners: dict[str, Target] = {}

    def __iter__(self) -> Iterator[Target]:
        return iter(self._targets.values())

    def put(self, target: Target) -> None:
        """A deployment is new or changed."""
        self._targets[target.key] = target
        self._index()

    def remove(self, key: str) -> None:
        """A deployment is gone."""
        self._targets.pop(key, None)
        self._index()

    def _index(self) -> None:
        by_age = sorted(self, key=lambda target: (target.created_at, target.key), reverse=True)
        self._owners = {target.served_name: target for target in by_age}

    def find(self, model: str) -> Target | None:
        """The deployment that a request's `model` means."""
        return self._targets.get(model) or self._owners.get(model)

    def resolve(self, model: str) -> Target:
        """The same. Raises `ApiError` that names the known models."""
        target = self.find(model)
        if target is None:
            raise errors.model_not_found(model, (name for name, _ in self.listed()))
        return target

    def listed(self) -> list[tuple[str, Target]]:
        """Every deployment under the shortest name that means it, by name."""
        names = (
            (target.served_name if self.find(target.served_name) is target else target.key, target)
            for target in self
        )
        return sorted(names, key=lambda pair: pair[0])
