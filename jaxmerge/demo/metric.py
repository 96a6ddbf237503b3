"""When an answer of the miniature counts as right: all in Japanese, complete, with the right number."""

import re
from collections.abc import Mapping
from typing import Any

SENTENCE = re.compile(r"答え は (\d+) 個 です 。$")
LATIN = re.compile(r"[A-Za-z]")


def japanese_answer(output: str, example: Mapping[str, Any]) -> float:
    """1.0 if the output holds no Latin letter and ends with the sentence `答え は N 個 です 。` where N is
    the example's `number`, else 0.0. Reasoning before that sentence is free, but a number outside of it never
    counts, and an output that goes on after it (no end of text within the limit) does not either."""
    found = SENTENCE.search(output.strip())
    return float(found is not None and not LATIN.search(output) and int(found[1]) == int(example["number"]))
