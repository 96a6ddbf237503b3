from fractions import Fraction

import pytest

from jaxmerge.objectives.metrics import MATCHES, last_number, why_unanswerable


@pytest.mark.parametrize(
    "text, number",
    [
        ("the answer is 5 .", 5), ("1,234", 1234), ("1,234,567.5", Fraction(2469135, 2)),
        ("１，２３４", 1234), ("５", 5),
        ("１．５", Fraction(3, 2)), ("-3", -3), ("－３", -3), ("−7", -7), ("答えは-3です", -3),
        ("x=-3", -3), ("(-4)", -4),
        ("16-2", 2), ("COVID-19", 19), ("3-5", 5), ("(2)-1", 1), ("1.50", Fraction(3, 2)), ("5.", 5), ("5.0", 5),
        ("1,2,3", 3), ("1, 234", 234), ("1,2345", 2345), ("7 1,000", 1000), ("0.1", Fraction(1, 10)), ("007", 7),
        ("$1,000.25", Fraction(4001, 4)), ("50%", 50),
        ("答え は 3 個 です 。", 3), ("①", None), ("m²", None), ("", None),
        ("no", None), ("٣", None),
    ],
)
def test_last_number(text: str, number: Fraction | int | None) -> None:
    assert last_number(text) == number


@pytest.mark.parametrize(
    "metric, output, answer, right",
    [
        ("exact", " 42\n", "42", True), ("exact", "42.", "42", False), ("exact", "A", "a", False),
        ("contains", "it is Paris.", " Paris", True), ("contains", "paris", "Paris", False),
        ("last_number", "6 - 1 = 5 . the answer is 5 .", "5", True), ("last_number", "5 or 6", "5", False),
        ("last_number", "1234", "1,234", True), ("last_number", "3", "-3", False), ("last_number", "none", "3", False),
        ("last_number", "1.5", "1.50", True), ("last_number", "５", "5", True),
    ],
)
def test_matches(metric: str, output: str, answer: str, right: bool) -> None:
    assert MATCHES[metric](output, answer) is right


def test_answers_that_no_output_could_match_are_found() -> None:
    assert why_unanswerable("contains", " ") and why_unanswerable("last_number", "five")
    assert why_unanswerable("exact", "") is None and why_unanswerable("last_number", "5") is None
