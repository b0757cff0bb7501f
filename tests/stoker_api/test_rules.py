"""Rules in two languages: the CEL text and the Python check say the same."""

import re

import pytest

from stoker_api.rules import duration_between, keys, literal, matching, rule, rules


def test_a_rule_words_its_values_in_cel() -> None:
    assert rule("self.a <= self.b", "was %s > %s", "self.a, self.b", field=".a") == {
        "rule": "self.a <= self.b",
        "messageExpression": "r'was %s > %s'.format([self.a, self.b])",
        "fieldPath": ".a",
    }


def test_rules_travel_as_a_schema_extension() -> None:
    first, second = rule("self > 1", "was %s"), rule("self < 9", "was %s")
    assert rules(first, second) == {"x-kubernetes-validations": [first, second]}


def test_literals_keep_backslashes_and_apostrophes() -> None:
    assert literal(r"a\.b") == r"r'a\.b'"
    assert literal("inner '-'") == "r\"inner '-'\""


def test_a_pattern_is_the_same_in_both_languages() -> None:
    check, extension = matching("^a+$", "some a")
    [only] = extension["x-kubernetes-validations"]
    assert only["rule"] == "self.matches(r'^a+$')"
    assert check.func("aaa") == "aaa"  # type: ignore[call-arg,arg-type]
    with pytest.raises(ValueError, match=re.escape("must be some a, was b")):
        check.func("b")  # type: ignore[call-arg,arg-type]


def test_a_duration_out_of_limits_is_not_called_malformed() -> None:
    check, extension = duration_between("1s", "1h")
    grammar, limits = extension["x-kubernetes-validations"]
    assert grammar["rule"] in limits["rule"]
    for text, words in [("2h", "between 1s and 1h, was 2h"), ("2x", "must be a duration")]:
        with pytest.raises(ValueError, match=words):
            check.func(text)  # type: ignore[call-arg,arg-type]


def test_the_first_broken_key_is_named() -> None:
    check, only = keys("k == 'x'", lambda key: key == "x", "must not be, was %s")
    assert only["rule"] == "!self.exists(k, k == 'x')"
    assert "self.filter(k, k == 'x')[0]" in only["messageExpression"]
    with pytest.raises(ValueError, match="must not be, was x"):
        check.func({"a": "1", "x": "2"})  # type: ignore[call-arg,arg-type]
