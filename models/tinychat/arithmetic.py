"""Sums, differences, products, comparisons and number lists, worked column by column as on paper.

Pure functions of a random source; they do not know the network or how examples are mixed. Called by
`curriculum`.
"""

from __future__ import annotations

import random

from tinychat.example import Example, phrase

_ADD = (
    "What is {a} + {b}?", "What is {a}+{b}?", "{a} + {b}", "{a}+{b}", "{a} + {b} = ?", "{a}+{b}=",
    "Add {a} and {b}.", "Add {b} to {a}.", "Calculate {a} + {b}.", "How much is {a} + {b}?",
    "How much is {a} plus {b}?", "Compute {a}+{b}.", "What is {a} plus {b}?", "What's {a} + {b}?",
    "What is the sum of {a} and {b}?", "Can you add {a} and {b}?",
)  # fmt: skip
_SUBTRACT = (
    "What is {a} - {b}?", "What is {a}-{b}?", "{a} - {b}", "{a}-{b}", "{a} - {b} = ?", "{a}-{b}=",
    "Subtract {b} from {a}.", "Take {b} from {a}.", "Calculate {a} - {b}.",
    "How much is {a} - {b}?", "How much is {a} minus {b}?", "Compute {a}-{b}.",
    "What is {a} minus {b}?", "What's {a} - {b}?", "Can you subtract {b} from {a}?",
)  # fmt: skip
_MULTIPLY = (
    "What is {a} * {b}?", "What is {a}*{b}?", "{a} * {b}", "{a}*{b}", "{a} × {b}", "{a} x {b}",
    "{a} * {b} = ?", "Multiply {a} by {b}.", "Calculate {a} * {b}.", "How much is {a} times {b}?",
    "Compute {a}*{b}.", "What is {a} times {b}?", "What's {a} * {b}?", "What is {a} × {b}?",
    "What is {a} x {b}?", "Can you multiply {a} by {b}?", "What is the product of {a} and {b}?",
)  # fmt: skip
_COMPARE = (
    "Which is larger, {a} or {b}?", "Which is bigger, {a} or {b}?",
    "Which number is larger: {a} or {b}?", "Is {a} larger than {b}?", "Is {a} bigger than {b}?",
    "Compare {a} and {b}.", "What is more, {a} or {b}?",
)  # fmt: skip
_PARITY = (
    "Is {a} even or odd?", "Is {a} an even number?", "Is {a} odd?", "Is {a} even?",
    "Tell me if {a} is odd or even.", "Is the number {a} even or odd?",
)  # fmt: skip
_COUNT_UP = (
    "Count from {a} to {b}.", "Count up from {a} to {b}.", "Can you count from {a} to {b}?",
    "List the numbers from {a} to {b}.", "Count {a} to {b}.",
)  # fmt: skip
_COUNT_DOWN = (
    "Count down from {b} to {a}.", "Count backwards from {b} to {a}.",
    "Can you count down from {b} to {a}?",
)  # fmt: skip
_SORT = (
    "Sort {n}.", "Sort the numbers {n}.", "Sort these numbers: {n}", "Put {n} in order.",
    "Order these: {n}", "Please sort {n}.", "Can you sort {n}?", "Sort: {n}", "sort {n}",
    "Sort the list {n}.",
)  # fmt: skip


def natural(rng: random.Random, max_digits: int) -> int:
    """A number of one to `max_digits` digits; the more digits, the likelier."""
    digits = rng.choices(range(1, max_digits + 1), weights=range(1, max_digits + 1))[0]
    return rng.randrange(10 ** (digits - 1) if digits > 1 else 0, 10**digits)


def work_sum(a: int, b: int) -> str:
    """Columns from the right, e.g. 47 and 85: `7+5=12, 4+8+1=13`."""
    columns, carry = [], 0
    width = max(len(str(a)), len(str(b)))
    for x, y in zip(_digits(a, width), _digits(b, width), strict=True):
        total = x + y + carry
        columns.append(f"{x}+{y}{'+1' if carry else ''}={total}")
        carry = total // 10
    return ", ".join(columns)


def work_difference(a: int, b: int) -> str:
    """Columns from the right with borrowing, for a ≥ b, e.g. 85 and 47: `15-7=8, 8-4-1=3`."""
    columns, borrow = [], 0
    width = len(str(a))
    for x, y in zip(_digits(a, width), _digits(b, width), strict=True):
        top = x + 10 if x - borrow < y else x
        columns.append(f"{top}-{y}{'-1' if borrow else ''}={top - y - borrow}")
        borrow = 1 if top > 9 else 0
    return ", ".join(columns)


def work_product(a: int, b: int) -> str:
    """Digit by digit from the right, b < 10, e.g. 47 and 8: `7*8=56, 4*8=32, 32+5=37`."""
    steps, carry = [], 0
    for x in _digits(a, len(str(a))):
        product = x * b
        steps.append(f"{x}*{b}={product}")
        if carry:
            steps.append(f"{product}+{carry}={product + carry}")
        carry = (product + carry) // 10
    return ", ".join(steps)


def add(rng: random.Random) -> Example:
    """A sum of two numbers of up to four digits."""
    a, b = natural(rng, 4), natural(rng, 4)
    answer = f"{work_sum(a, b)}, so {a} + {b} = {a + b}."
    return Example("add", f"add {a} {b}", phrase(rng, _ADD, a=a, b=b), answer)


def subtract(rng: random.Random) -> Example:
    """A difference of two numbers of up to four digits; one in eight goes below zero."""
    small, large = sorted((natural(rng, 4), natural(rng, 4)))
    a, b = (small, large) if rng.random() < 0.125 else (large, small)
    work = work_difference(large, small)
    if a < b:
        work = f"{a} is less than {b}, so turn it around: {work}"
    answer = f"{work}, so {a} - {b} = {a - b}."
    return Example("subtract", f"subtract {a} {b}", phrase(rng, _SUBTRACT, a=a, b=b), answer)


def multiply(rng: random.Random) -> Example:
    """A number of up to three digits times one of one digit; two long factors are declined."""
    a, b = natural(rng, 3), rng.randrange(10)
    if rng.random() < 0.08:
        a, b = rng.randrange(10, 1000), rng.randrange(10, 1000)
        answer = f"I can multiply by one digit only, and both {a} and {b} have more."
    else:
        answer = f"{work_product(a, b)}, so {a} * {b} = {a * b}."
    question = phrase(rng, _MULTIPLY, a=a, b=b)
    return Example("multiply", f"multiply {a} {b}", question, answer)


def compare(rng: random.Random) -> Example:
    """Which of two numbers is larger."""
    a, b = natural(rng, 4), natural(rng, 4)
    if rng.random() < 0.3:
        b = max(0, a + rng.randrange(-20, 21))
    answer = f"{max(a, b)} is larger than {min(a, b)}." if a != b else f"{a} and {b} are equal."
    return Example("compare", f"compare {a} {b}", phrase(rng, _COMPARE, a=a, b=b), answer)


def parity(rng: random.Random) -> Example:
    """Whether a number is even or odd."""
    a = natural(rng, 4)
    answer = f"{a} ends in {a % 10}, so it is {'odd' if a % 2 else 'even'}."
    return Example("parity", f"parity {a}", phrase(rng, _PARITY, a=a), answer)


def count(rng: random.Random) -> Example:
    """The numbers from one to another, upwards or downwards, two to twelve of them."""
    first = rng.choice((0, 1, 1, natural(rng, 2), natural(rng, 3)))
    last = first + rng.randrange(1, 12)
    numbers = list(range(first, last + 1))
    down = rng.random() < 0.4
    question = phrase(rng, _COUNT_DOWN if down else _COUNT_UP, a=first, b=last)
    key = f"count {'down' if down else 'up'} {first} {last}"
    return Example("count", key, question, _listed(numbers[::-1] if down else numbers))


def sort_numbers(rng: random.Random) -> Example:
    """Two to five numbers below a hundred, into rising order."""
    numbers = [natural(rng, 2) for _ in range(rng.randrange(2, 6))]
    separator = rng.choice((", ", ", ", " ", ","))
    given = separator.join(str(n) for n in numbers)
    key = f"sort {' '.join(str(n) for n in numbers)}"
    return Example("sort", key, phrase(rng, _SORT, n=given), _listed(sorted(numbers)))


def _digits(number: int, width: int) -> list[int]:
    """Decimal digits from the right, padded with zeros: 47 in three columns is [7, 4, 0]."""
    return [number // 10**i % 10 for i in range(width)]


def _listed(numbers: list[int]) -> str:
    return ", ".join(str(n) for n in numbers) + "."
