"""rouge_l: the longest common subsequence of words."""

import sys

import pytest

from jaxmerge.errors import InputError
from jaxmerge.objectives.rouge import check_rouge, rouge_l


def test_it_is_that_of_the_library_in_plain_english() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    output, answer = "The cat sat on a mat, twice!", "the cat is on the mat"
    expected = RougeScorer(["rougeL"]).score(answer, output)["rougeL"].fmeasure
    assert rouge_l(output, answer) == pytest.approx(expected)
    # cat, on, mat and the first "the" are common: 4 of 7 and of 6 words.
    assert expected == pytest.approx(2 * (4 / 7) * (4 / 6) / (4 / 7 + 4 / 6))


@pytest.mark.parametrize("text", ["naïve café", "猫が座った。", "他有三个苹果", "Ответ 42", "สวัสดี"])
def test_a_text_is_like_itself_and_not_like_nothing(text: str) -> None:
    assert rouge_l(text, text) == 1.0
    assert rouge_l("", text) == 0.0


def test_japanese_is_cut_into_words() -> None:
    # 猫 / が / 座っ / た and 犬 / が / 座っ / た
    assert rouge_l("犬が座った。", "猫が座った。") == pytest.approx(3 / 4)
    assert rouge_l("東京都", "東京都", language="ja") == 1.0


def test_of_scripts_without_spaces_each_character_counts() -> None:
    assert rouge_l("他有三个梨", "他有三个苹果") == pytest.approx(2 * 4 / (5 + 6))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("की", "का"),
        ("लड़का", "लड़की"),
        ("ছেলে", "ছালা"),
        ("ที่", "ทู่"),
        ("ကို", "ကာ"),
        ("កី", "កូ"),
        ("மி", "மு"),
        ("עִם", "עַם"),
    ],
)
def test_words_differ_in_their_marks(one: str, other: str) -> None:
    assert rouge_l(one, other) == 0.0
    assert rouge_l(one, one) == 1.0


def test_a_mark_stays_with_its_letter() -> None:
    # लड़का / जाता / है and लड़की / जाती / है
    assert rouge_l("लड़का जाता है", "लड़की जाती है") == pytest.approx(1 / 3)
    # ที่ / นี่ and ที่ / นั่
    assert rouge_l("ที่นี่", "ที่นั่") == pytest.approx(1 / 2)
    # A selector of glyphs makes no other word.
    assert rouge_l("葛\U000e0100城 1\ufe0f", "葛城 1") == 1.0


def test_accents_belong_to_words() -> None:
    assert rouge_l("caf", "café") == 0.0


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(InputError, match=r"say\.metric: rouge_l needs .*jaxmerge\[rouge\]"):
        check_rouge("say.metric")
