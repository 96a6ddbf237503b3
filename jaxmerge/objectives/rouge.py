"""metric: rouge_l. The longest common subsequence of words, by rouge-score; Japanese words by MeCab with UniDic."""

import re
import sys
import unicodedata
from functools import cache
from typing import Any

from jaxmerge.errors import InputError

_LETTER = re.compile(r"\w")
_KANA = re.compile(r"[\u3041-\u30ff]")
# Written without spaces between words: every character is a word, as in the Chinese evaluations of ROUGE.
_UNSPACED = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3400-\u9fff]"
# Marks by category that change no letter: they choose a glyph (variation selectors), or join.
_UNSEEN = re.compile(r"[\u034f\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")


def rouge_l(output: str, answer: str, language: str | None = None) -> float:
    """The F-measure of the longest common subsequence of words, in [0, 1] (Lin 2004).

    language: of the answer, as `language` names it; None: Japanese where the answer has kana. Japanese is cut into
    words by MeCab; other texts into runs of letters and digits with their combining marks (vowel signs, accents), in
    lower case and NFKC; of scripts that have no spaces, such as Han and Thai, each character counts, with its marks.
    """
    japanese = language == "ja" or (language is None and _KANA.search(answer) is not None)
    score = _scorer(_Japanese() if japanese else _Words()).score(answer, output)
    return float(score["rougeL"].fmeasure)


def check_rouge(where: str) -> None:
    """Raises InputError where the packages are missing."""
    try:
        rouge_l("あ", "あ")
    except (ImportError, RuntimeError):  # fugashi without a dictionary says so by RuntimeError
        raise InputError(f"{where}: rouge_l needs rouge-score and fugashi; pip install 'jaxmerge[rouge]'") from None


class _Words:
    def tokenize(self, text: str) -> list[str]:
        character, word = _patterns()
        plain = _UNSEEN.sub("", unicodedata.normalize("NFKC", text).lower())
        return word.findall(character.sub(lambda found: f" {found[0]} ", plain))


class _Japanese:
    def tokenize(self, text: str) -> list[str]:
        words = (word.surface for word in _mecab()(unicodedata.normalize("NFKC", text)))
        return [word for word in words if _LETTER.search(word)]


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """A character of a script without spaces, and a word. `\\w` has no marks (Mn, Mc), in which words of Indic scripts
    differ."""
    marks = "".join(c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Mn", "Mc"))
    return re.compile(f"{_UNSPACED}[{marks}]*"), re.compile(rf"\w[\w{marks}]*")


def _scorer(tokenizer: _Words | _Japanese) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], tokenizer=tokenizer)


@cache
def _mecab() -> Any:
    from fugashi import Tagger

    return Tagger()
