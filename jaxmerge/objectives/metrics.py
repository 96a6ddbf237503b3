"""How an output is judged: exact, contains and last_number by its answer, brevity by its length alone."""

import re
from collections.abc import Callable
from fractions import Fraction

# Full-width forms stand a fixed distance above ASCII; the minus sign of typeset mathematics is a hyphen for
# us.
_ASCII = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {0x2212: ord("-")}

# A hyphen after a digit, a Latin letter or a closing mark joins ("16-2", "COVID-19"); elsewhere it is a sign.
# Commas separate thousands only where groups of three follow, so "1,2,3" ends in 3.
_NUMBER = re.compile(
    r"(?:(?<![0-9A-Za-z_)\]%.])-)?"
    r"(?:(?<![0-9])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
    r"(?:\.[0-9]+)?"
)


def last_number(text: str) -> Fraction | None:
    """The last number in a text, exactly; None where there is none.

    Understands signs, decimals, thousands commas and full-width digits: `１，２３４` is 1234, `1.50` is `1.5`.
    """
    found = _NUMBER.findall(text.translate(_ASCII))
    return Fraction(found[-1].replace(",", "")) if found else None


def is_exact(output: str, answer: str) -> bool:
    """Equal after stripping white space at both ends."""
    return output.strip() == answer.strip()


def is_contained(output: str, answer: str) -> bool:
    """The answer, stripped, occurs in the output."""
    return answer.strip() in output


def same_last_number(output: str, answer: str) -> bool:
    """The last number of the output equals the answer's last number."""
    number = last_number(output)
    return number is not None and number == last_number(answer)


MATCHES: dict[str, Callable[[str, str], bool]] = {
    "exact": is_exact,
    "contains": is_contained,
    "last_number": same_last_number,
}


def brevity(tokens: int, limit: int) -> float:
    """1 - tokens / limit: 1 for an empty output, 0 for one that reaches the longest length."""
    return 1.0 - tokens / limit


def why_unanswerable(metric: str, answer: str) -> str | None:
    """Why no output could match this answer, or every output would; None where the answer is usable."""
    if metric == "contains" and not answer.strip():
        return "the answer is empty, and every output contains it"
    if metric == "last_number" and last_number(answer) is None:
        return f"the answer {answer!r} holds no number"
    return None
