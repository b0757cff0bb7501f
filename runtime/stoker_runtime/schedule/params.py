"""What a request asks of the sampler and of the end of its sequence.

Knows the inner form of the OpenAI sampling fields after validation; does not know HTTP, text or
torch. Made by the server, carried over the wire, read by the scheduler and the sampler.
"""

from __future__ import annotations

import msgspec


class SamplingParams(msgspec.Struct, frozen=True, omit_defaults=True):
    """Validated sampling fields of one sequence (ranges are checked at the door, not here)."""

    max_tokens: int
    """Longest answer in tokens; at least 1."""
    min_tokens: int = 0
    """No end before so many tokens."""
    temperature: float = 1.0
    """0 means greedy."""
    top_p: float = 1.0
    """Nucleus mass in (0, 1]."""
    top_k: int = 0
    """Most likely tokens kept; 0 keeps all."""
    min_p: float = 0.0
    """Least probability kept, relative to the most likely token."""
    presence_penalty: float = 0.0
    """Subtracted once from every token already in the answer."""
    frequency_penalty: float = 0.0
    """Subtracted per occurrence in the answer."""
    repetition_penalty: float = 1.0
    """Divides (or multiplies, when negative) logits of tokens in prompt and answer."""
    seed: int | None = None
    """Makes the draw reproducible, whatever else is in the batch."""
    logit_bias: dict[int, float] = {}
    """Added to the logits of these token ids."""
    logprobs: int | None = None
    """Number of alternatives reported per token; None reports nothing, 0 the chosen one only."""
    prompt_logprobs: int | None = None
    """The same for each token of the prompt."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end the answer, besides the model's own."""
    ignore_eos: bool = False
    """Go on past the model's end tokens."""
