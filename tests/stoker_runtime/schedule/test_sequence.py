"""The rules of one sequence: its tokens and its end."""

from __future__ import annotations

import pytest

from stoker_runtime.schedule.params import SamplingParams
from stoker_runtime.schedule.sequence import Sequence, Status

EOS = 2


def make_sequence(prompt: tuple[int, ...] = (5, 6, 7), **params: object) -> Sequence:
    fields = {"max_tokens": 4, **params}
    return Sequence("a", prompt, SamplingParams(**fields), frozenset({EOS}))  # type: ignore[arg-type]


def feed(seq: Sequence, *token_ids: int, max_model_len: int = 100) -> Sequence:
    for token_id in token_ids:
        seq.append(token_id, max_model_len)
    return seq


def test_counts_prompt_and_answer() -> None:
    seq = feed(make_sequence(), 8, 9)
    seq.num_awaited = 1
    assert (seq.num_known_tokens, seq.num_tokens, seq.num_made_tokens) == (5, 6, 3)


def test_its_ends_are_put_together_once_however_many_they_are() -> None:
    seq = make_sequence(stop_token_ids=(8, 9))
    assert seq.stop_ids == {EOS, 8, 9}
    assert seq.stop_ids is seq.stop_ids
    assert make_sequence(stop_token_ids=(8,), ignore_eos=True).stop_ids == {8}


@pytest.mark.parametrize(
    ("computed", "made", "decoding"),
    [(0, 0, False), (2, 0, False), (3, 1, True), (0, 1, False), (4, 2, True)],
)
def test_decodes_when_only_the_newest_token_is_pending(
    computed: int, made: int, decoding: bool
) -> None:
    seq = feed(make_sequence(), *[9] * made)
    seq.num_computed_tokens = computed
    assert seq.is_decoding is decoding


@pytest.mark.parametrize("start", range(6))
@pytest.mark.parametrize("end", range(6))
def test_slices_across_prompt_and_answer(start: int, end: int) -> None:
    seq = feed(make_sequence(), 8, 9)
    assert seq.slice_tokens(start, end) == (5, 6, 7, 8, 9)[start:end]


@pytest.mark.parametrize(
    ("params", "tokens", "reason"),
    [
        pytest.param({}, [9, EOS], "stop", id="end token"),
        pytest.param({}, [9, 9, 9], None, id="goes on"),
        pytest.param({}, [9, 9, 9, 9], "length", id="max tokens"),
        pytest.param({}, [9, 9, 9, EOS], "stop", id="end token at the limit counts as an end"),
        pytest.param({"ignore_eos": True}, [9, EOS], None, id="end token ignored"),
        pytest.param({"stop_token_ids": (8,)}, [9, 8], "stop", id="own stop token"),
        pytest.param({"stop_token_ids": (8,), "ignore_eos": True}, [8], "stop", id="stop, no eos"),
        pytest.param({"min_tokens": 3}, [9, EOS], None, id="too early to end"),
        pytest.param({"min_tokens": 3}, [9, 9, EOS], "stop", id="late enough to end"),
    ],
)
def test_ends_for_the_right_reason(
    params: dict[str, object], tokens: list[int], reason: str | None
) -> None:
    seq = feed(make_sequence(**params), *tokens)
    assert seq.finish_reason == reason
    assert (seq.status is Status.FINISHED) is (reason is not None)


def test_ends_where_the_model_ends() -> None:
    seq = feed(make_sequence(), 9, 9, max_model_len=5)
    assert seq.finish_reason == "length"
