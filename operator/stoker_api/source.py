"""Where a model comes from: the one grammar of `spec.model.source`.

Knows `hf://`, `s3://`, `https://` and `pvc://` and splits them into parts; does not fetch and does
not know which of them a release can serve. Used by the API models, the CRD's rules, the operator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Scheme = Literal["hf", "s3", "https", "pvc"]

MAX_LENGTH = 512
FORMS = "hf://org/name[@revision], s3://bucket/path, https://host/path or pvc://claim[/path]"

_SEGMENT = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_PATH = r"[A-Za-z0-9_][A-Za-z0-9._=+-]*(/[A-Za-z0-9_][A-Za-z0-9._=+-]*)*/?"
PATTERNS: dict[Scheme, str] = {
    "hf": rf"^hf://{_SEGMENT}/{_SEGMENT}(@{_SEGMENT}(/{_SEGMENT})*)?$",
    "s3": rf"^s3://[a-z0-9][a-z0-9.-]{{1,61}}[a-z0-9]/{_PATH}$",
    "https": r"^https://[A-Za-z0-9.-]+(:[0-9]{1,5})?/[A-Za-z0-9._~%=+/-]+$",
    "pvc": rf"^pvc://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/({_PATH})?)?$",
}
"""One expression per scheme, in the syntax that Python and CEL (RE2) share. Path segments start
with a letter, digit or underscore: `..` and hidden files cannot be named."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A source taken apart; `str()` puts it together again."""

    scheme: Scheme
    location: str
    """`org/name`, bucket, `host[:port]` or claim."""
    path: str = ""
    """Below the location, without slashes at its ends; empty for `hf`."""
    revision: str = ""
    """Of a hub repository: branch, tag or commit; empty means its default branch."""

    def __str__(self) -> str:
        path = f"/{self.path}" if self.path else ""
        revision = f"@{self.revision}" if self.revision else ""
        return f"{self.scheme}://{self.location}{path}{revision}"


def parse_source(text: str) -> ModelSource:
    """The parts of a source. Raises `ValueError` naming the text and the accepted forms."""
    for scheme, pattern in PATTERNS.items():
        if len(text) <= MAX_LENGTH and re.fullmatch(pattern, text):
            return _split(scheme, text.removeprefix(f"{scheme}://"))
    raise ValueError(f"must be {FORMS}, was {text!r}")


def _split(scheme: Scheme, rest: str) -> ModelSource:
    if scheme == "hf":
        repository, _, revision = rest.partition("@")
        return ModelSource("hf", repository, revision=revision)
    location, _, path = rest.partition("/")
    return ModelSource(scheme, location, path.strip("/"))
