"""The JSON of answers: choices, log probabilities, usage.

Knows OpenAI's shapes of both routes; does not know HTTP, streaming or the engine. Used for plain
answers and, piece by piece, for streams.
"""

from __future__ import annotations

from dataclasses import dataclass

from stoker_runtime.server.generation import Choice, Delta, Generation
from stoker_runtime.server.logprobs import (
    Json,
    list_prompt_entries,
    render_chat,
    render_completion,
    render_prompt,
)
from stoker_runtime.server.openai import Ask
from stoker_runtime.text.detokenize import Vocabulary

FINGERPRINT = "stoker"


@dataclass(frozen=True, slots=True)
class AnswerPlan:
    """How one request is to be answered; what all parts of the answer repeat."""

    id: str
    created: int
    ask: Ask
    vocabulary: Vocabulary
    echoes: list[str]
    """The texts that come before each completion."""
    prompts: tuple[list[int], ...] = ()
    """The ids of each answer's prompt; needed where its log probabilities are shown."""


def usage(generation: Generation) -> Json:
    """Token counts of the whole request."""
    prompt, completion = generation.prompt_tokens, generation.completion_tokens
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": min(generation.cached_tokens, prompt)},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def whole(plan: AnswerPlan, generation: Generation) -> Json:
    """A plain answer."""
    answer: Json = {
        "id": plan.id,
        "object": "chat.completion" if plan.ask.is_chat else "text_completion",
        "created": plan.created,
        "model": plan.ask.model,
        "system_fingerprint": FINGERPRINT,
        "choices": [_choice(plan, choice) for choice in generation.choices],
        "usage": usage(generation),
    }
    if plan.ask.is_chat and plan.ask.prompt_logprobs is not None:
        answer["prompt_logprobs"] = _prompt_logprobs(plan, generation.choices[0])
    return answer


def _choice(plan: AnswerPlan, choice: Choice) -> Json:
    delta = choice.take()
    if not plan.ask.is_chat:
        delta = prepend_echo(plan, choice, delta)
    content: Json = {"text": delta.text}
    if plan.ask.is_chat:
        content = {"message": {"role": "assistant", "content": delta.text, "refusal": None}}
    elif plan.ask.prompt_logprobs is not None:
        content["prompt_logprobs"] = _prompt_logprobs(plan, choice)
    logprobs = None if plan.ask.params.logprobs is None else render_logprobs(plan, choice, delta)
    end: Json = {"logprobs": logprobs, "finish_reason": choice.finish_reason}
    return {"index": choice.index, **content, **end, "stop_reason": choice.stop_reason}


def prepend_echo(plan: AnswerPlan, choice: Choice, delta: Delta) -> Delta:
    """The beginning of a completion with the echoed prompt before it."""
    text = plan.echoes[choice.index]
    entries = delta.entries
    if plan.ask.echoes_logprobs:
        ids = plan.prompts[choice.index]
        before = list_prompt_entries(ids, choice.prompt_logprobs, plan.vocabulary, text)
        entries = before + entries
    return Delta(text + delta.text, entries)


def render_logprobs(plan: AnswerPlan, choice: Choice, delta: Delta) -> Json:
    """The log probabilities of some tokens, in the shape of the route."""
    num_top = plan.ask.params.logprobs or 0
    if plan.ask.is_chat:
        return render_chat(delta.entries, plan.vocabulary, num_top)
    echo_chars = len(plan.echoes[choice.index])
    return render_completion(delta.entries, plan.vocabulary, num_top, echo_chars)


def _prompt_logprobs(plan: AnswerPlan, choice: Choice) -> list[Json | None]:
    return render_prompt(choice.prompt_logprobs, plan.vocabulary, plan.ask.prompt_logprobs or 0)
