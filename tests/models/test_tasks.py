"""Every task's answers are true, by other means than the tasks' own; the split is clean."""

import random
import re
from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinychat import arithmetic, spelling, talk
from tinychat.curriculum import TASKS, conversations, draw_example, heldout_examples
from tinychat.example import HELD_OUT_SHARE, is_held_out, is_right, phrase
from tinychat.words import COMMON, FAMILIAR, MAX_LETTERS, draw_word

seeds = st.integers(0, 2**32)
numbers = st.integers(0, 9999)
few = settings(max_examples=40, deadline=None)


def numbers_in(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def quoted(text: str) -> str:
    """What stands between the last pair of single quotes."""
    return re.findall(r"'([^']*)'", text)[-1]


def assert_equations_hold(text: str) -> None:
    """Each `2+3+1=6` and `47 * 8 = 376` in the text is true."""
    equations = re.findall(r"(\d+(?: ?[-+*] ?\d+)+) ?= ?(-?\d+)", text)
    assert equations
    for left, right in equations:
        assert value(left) == int(right), f"{left} = {right}"


def value(expression: str) -> int:
    """Sums and differences from left to right, or one product."""
    if "*" in expression:
        left, right = expression.split("*")
        return int(left) * int(right)
    return sum(int(term) for term in re.findall(r"[+-]?\d+", expression.replace(" ", "")))


@few
@given(numbers, numbers)
def test_columns_of_a_sum_are_true_and_end_in_its_digits(a: int, b: int) -> None:
    work = arithmetic.work_sum(a, b)
    assert_equations_hold(work)
    results = [n.rpartition("=")[2] for n in work.split(", ")]
    digits = [results[-1], *(result[-1] for result in reversed(results[:-1]))]
    assert int("".join(digits)) == a + b


@few
@given(numbers, numbers)
def test_columns_of_a_difference_are_true_and_are_its_digits(a: int, b: int) -> None:
    large, small = max(a, b), min(a, b)
    work = arithmetic.work_difference(large, small)
    assert_equations_hold(work)
    digits = [column.rpartition("=")[2] for column in reversed(work.split(", "))]
    assert int("".join(digits)) == large - small


@few
@given(st.integers(0, 999), st.integers(0, 9))
def test_steps_of_a_product_are_true(a: int, b: int) -> None:
    work = arithmetic.work_product(a, b)
    assert_equations_hold(work)
    assert work.count("*") == len(str(a))


@pytest.mark.parametrize("task", ["add", "subtract", "multiply"])
@few
@given(seed=seeds)
def test_sums_end_in_the_right_result(task: str, seed: int) -> None:
    example = TASKS[task].draw(random.Random(seed))
    if "one digit only" in example.answer:
        assert min(numbers_in(example.question)) > 9
        return
    assert_equations_hold(example.answer)
    asked, final = numbers_in(example.question), example.answer.rpartition("so ")[2]
    assert sorted(numbers_in(final)[:2]) == sorted(asked)


@few
@given(seeds)
def test_subtraction_keeps_the_order_of_the_words(seed: int) -> None:
    example = arithmetic.subtract(random.Random(seed))
    first, second = numbers_in(example.question)
    if " from " in example.question:
        first, second = second, first
    assert example.answer.endswith(f"so {first} - {second} = {first - second}.")


@few
@given(seeds)
def test_comparison_names_the_larger_first(seed: int) -> None:
    example = arithmetic.compare(random.Random(seed))
    first, second = numbers_in(example.answer)
    assert first > second or (first == second and "equal" in example.answer)
    assert {first, second} == set(numbers_in(example.question))


@few
@given(seeds)
def test_parity_is_that_of_the_number(seed: int) -> None:
    example = arithmetic.parity(random.Random(seed))
    assert ("odd" in example.answer) == (numbers_in(example.question)[0] % 2 == 1)


@few
@given(seeds)
def test_counting_goes_in_steps_of_one_from_end_to_end(seed: int) -> None:
    example = arithmetic.count(random.Random(seed))
    counted, ends = numbers_in(example.answer), numbers_in(example.question)
    assert [counted[0], counted[-1]] == ends
    step = 1 if ends[1] > ends[0] else -1
    assert [b - a for a, b in pairwise(counted)] == [step] * (len(counted) - 1)


@few
@given(seeds)
def test_sorting_keeps_the_numbers_and_orders_them(seed: int) -> None:
    example = arithmetic.sort_numbers(random.Random(seed))
    answered = numbers_in(example.answer)
    assert Counter(answered) == Counter(numbers_in(example.question))
    assert all(a <= b for a, b in pairwise(answered))


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("spell pepper", "p-e-p-p-e-r."),
        ("reverse pepper", "p-e-p-p-e-r turned around is r-e-p-p-e-p: 'reppep'."),
        ("upper pepper", "'PEPPER'."),
        ("length pepper", "p 1, e 2, p 3, p 4, e 5, r 6: 'pepper' has 6 letters."),
        (
            "tally p pepper",
            "Looking for p: p 1, e 1, p 2, p 3, e 3, r 3. The letter p is in 'pepper' 3 times.",
        ),
        ("pick last pepper", "The last letter of 'pepper' is r."),
        ("repeat 3 pepper", "pepper, pepper, pepper."),
    ],
)
def test_letters_of_a_word_are_told_one_by_one(
    key: str, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spelling, "draw_word", lambda rng: "pepper")
    draw, rng = TASKS[key.split()[0]].draw, random.Random(0)
    drawn = {example.key: example.answer for example in (draw(rng) for _ in range(100))}
    assert drawn[key] == answer


@few
@given(seeds)
def test_reversing_twice_gives_the_word_again(seed: int) -> None:
    example = spelling.reverse(random.Random(seed))
    word = example.key.removeprefix("reverse ")
    assert quoted(example.answer)[::-1] == word
    assert word in example.question


@few
@given(seeds)
def test_tally_counts_capitals_as_well(seed: int) -> None:
    example = spelling.tally(random.Random(seed))
    _, letter, word = example.key.split(" ")
    times = sum(one in (letter, letter.upper()) for one in word)
    assert numbers_in(example.answer)[-1] == times
    assert example.answer.endswith(f" {times} time{'s' if times != 1 else ''}.")


@few
@given(seeds)
def test_echo_says_exactly_what_came_last(seed: int) -> None:
    example = spelling.echo(random.Random(seed))
    assert example.question.endswith(example.answer)


@few
@given(seeds)
def test_words_are_letters_within_the_limit(seed: int) -> None:
    word = draw_word(random.Random(seed))
    assert word.isalpha()
    assert 2 <= len(word) <= MAX_LETTERS


def test_word_lists_are_apart_and_without_doubles() -> None:
    assert len({*COMMON, *FAMILIAR}) == len(COMMON) + len(FAMILIAR)


def test_no_wording_means_two_things() -> None:
    forms = Counter(form.lower() for intent in talk.INTENTS for form in intent.forms)
    assert [form for form, times in forms.items() if times > 1] == []


def test_what_it_can_talk_about_is_never_refused() -> None:
    forms = {re.sub(r"\W+", " ", form.lower()) for i in talk.INTENTS for form in i.forms}
    rng = random.Random(2)
    refused = {talk.unknown(rng).key.removeprefix("unknown ") for _ in range(2000)}
    assert forms & refused == set()


def test_only_a_farewell_ends_the_talk() -> None:
    assert [intent.name for intent in talk.INTENTS if intent.ends_talk] == ["farewell"]


@pytest.mark.parametrize("task", TASKS)
def test_key_decides_the_answer_whatever_the_wording(task: str) -> None:
    rng = random.Random(11)
    answers: dict[str, str] = {}
    for _ in range(500):
        example = TASKS[task].draw(rng)
        assert example.task == task
        assert answers.setdefault(example.key, example.answer) == example.answer


@few
@given(seeds)
def test_phrasing_never_alters_an_operand(seed: int) -> None:
    said = phrase(random.Random(seed), ("Spell {w}.", "What is {w} backwards?"), w="XyZ")
    assert "XyZ" in said


def test_split_holds_out_one_key_in_sixteen() -> None:
    share = sum(is_held_out(f"add {n} {n + 1}") for n in range(20_000)) / 20_000
    assert abs(share - 1 / HELD_OUT_SHARE) < 0.006


def test_training_never_sees_a_held_out_key() -> None:
    for conversation in islice(conversations(seed=5, max_turns=10), 1000):
        assert not any(is_held_out(turn.key) for turn in conversation.turns)


def test_conversations_end_with_a_farewell_if_there_is_one() -> None:
    for conversation in islice(conversations(seed=6, max_turns=10), 1000):
        assert not any(turn.ends_talk for turn in conversation.turns[:-1])


def test_conversations_are_the_same_for_the_same_seed_only() -> None:
    first, again, other = (list(islice(conversations(seed), 20)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_messages_alternate_after_the_system_prompt() -> None:
    for conversation in islice(conversations(seed=7), 200):
        roles = [message["role"] for message in conversation.messages()]
        if conversation.system is not None:
            assert roles.pop(0) == "system"
        assert roles == ["user", "assistant"] * len(conversation.turns)


def test_held_out_set_has_as_many_different_questions_of_each_task() -> None:
    examples = heldout_examples(per_task=3)
    assert Counter(e.task for e in examples) == dict.fromkeys(TASKS, 3)
    assert len({e.key for e in examples}) == len(examples)
    assert all(is_held_out(e.key) for e in examples)


def test_a_draw_comes_from_the_asked_side() -> None:
    for held_out in (True, False):
        example = draw_example(random.Random(1), "parity", held_out=held_out)
        assert is_held_out(example.key) == held_out


@pytest.mark.parametrize(
    ("said", "right"),
    [("432.", True), (" 432.\n", True), ("432", False), ("433.", False), ("", False)],
)
def test_grading_is_exact_but_for_white_space_around(said: str, right: bool) -> None:
    assert is_right("432.", said) == right
