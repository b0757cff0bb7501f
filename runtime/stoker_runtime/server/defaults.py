"""What the model's makers recommend for sampling, for requests that leave a field out.

Knows the fields of `generation_config.json` that have a counterpart in requests; does not know
requests. Read once at the start, as vLLM does it; fields of a request always win.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger(__name__)

_RANGES = {
    "temperature": (0.0, 100.0),
    "top_p": (0.0, 1.0),
    "top_k": (-1, 2**31),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (1e-3, 100.0),
}


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """Values of absent fields; those of OpenAI's API where the model says nothing."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0


def load_defaults(folder: Path) -> SamplingDefaults:
    """Read the checkpoint's file. What is absent or makes no sense counts as unsaid."""
    path = folder / "generation_config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return SamplingDefaults()
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s can't be read: %s", path, error)
        return SamplingDefaults()
    given = document if isinstance(document, dict) else {}
    return SamplingDefaults(**{name: given[name] for name in _RANGES if _makes_sense(name, given)})


def _makes_sense(name: str, given: dict[str, object]) -> bool:
    value = given.get(name)
    if value is None:
        return False
    low, high = _RANGES[name]
    kind = int if name == "top_k" else (int, float)
    good = isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
    if not good:
        log.warning("generation_config.json: `%s` must be %g to %g, ignored", name, low, high)
    return good
