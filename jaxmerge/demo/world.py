"""A world so small that a 300,000-parameter model can know it: names, things and sums in two languages.

Every problem has an English and a Japanese form (its twins) and one equation. The words are real words of
both languages; numbers 0 to 20 are single words that both share, as digits are in real text, and so is the
question mark."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "ja"]
Pair = tuple[str, str]  # the English and the Japanese word
Voice = Callable[[Pair], str]  # which word of a pair is said

NAMES: tuple[Pair, ...] = (
    ("Ben", "ベン"),
    ("Tom", "トム"),
    ("Amy", "エイミー"),
    ("Mia", "ミア"),
    ("Sam", "サム"),
    ("Ann", "アン"),
    ("Leo", "レオ"),
    ("Eva", "エバ"),
)
THINGS: tuple[Pair, ...] = (
    ("pens", "ペン"),
    ("apples", "りんご"),
    ("cups", "コップ"),
    ("balls", "ボール"),
    ("cakes", "ケーキ"),
    ("eggs", "卵"),
    ("coins", "コイン"),
    ("keys", "鍵"),
    ("shells", "貝"),
    ("stones", "石"),
    ("stamps", "切手"),
    ("hats", "帽子"),
)
ADDING: tuple[Pair, ...] = (
    ("buys", "買う"),
    ("finds", "見つける"),
    ("gets", "もらう"),
    ("makes", "作る"),
    ("collects", "集める"),
)
SUBTRACTING: tuple[Pair, ...] = (
    ("sells", "売る"),
    ("loses", "失う"),
    ("gives", "あげる"),
    ("breaks", "壊す"),
    ("drops", "落とす"),
)
VERBS = ADDING + SUBTRACTING
HAVING: Pair = ("has", "持つ")
PAIRS = (*NAMES, *THINGS, *VERBS, HAVING)

LARGEST = 20
NUMBERS = tuple(str(n) for n in range(LARGEST + 1))
SIGNS = tuple("+-=:.?")
FUNCTION_WORDS = (
    *("how", "many", "the", "answer", "is", "english"),
    *("は", "を", "個", "。", "何", "です", "か", "答え", "日本語"),
)
WORDS = (*NUMBERS, *(word for pair in PAIRS for word in pair), *SIGNS, *FUNCTION_WORDS)


def english(pair: Pair) -> str:
    return pair[0]


def japanese(pair: Pair) -> str:
    return pair[1]


VOICES: dict[Language, Voice] = {"en": english, "ja": japanese}


@dataclass(frozen=True)
class Problem:
    """`name` has `first` `thing`, then `verb` `second` of them: indices into the tables above, but for the
    numbers."""

    name: int
    thing: int
    verb: int
    first: int
    second: int

    @property
    def adds(self) -> bool:
        return self.verb < len(ADDING)

    @property
    def answer(self) -> int:
        return self.first + self.second if self.adds else self.first - self.second

    @property
    def note(self) -> str:
        """The equation without its sum."""
        return f"{self.first} {'+' if self.adds else '-'} {self.second}"

    @property
    def equation(self) -> str:
        return f"{self.note} = {self.answer}"


PROBLEMS = tuple(
    problem
    for name in range(len(NAMES))
    for thing in range(len(THINGS))
    for verb in range(len(VERBS))
    for first in range(2, LARGEST + 1)
    for second in range(1, LARGEST)
    if 0 <= (problem := Problem(name, thing, verb, first, second)).answer <= LARGEST
)


def held_out(problem: Problem) -> bool:
    """Whether a problem, in any language and any form, is kept for search, validation and test. One in eight
    is, chosen by a hash of the problem alone: so no model is trained on a held-out problem, its twin or its
    story."""
    key = f"{problem.name} {problem.thing} {problem.verb} {problem.first} {problem.second}"
    return hashlib.sha256(key.encode()).digest()[0] < 32


def has(problem: Problem, language: Language, voice: Voice | None = None) -> str:
    """The first sentence of the story, in the word order of `language` and the words of `voice`."""
    say = voice or VOICES[language]
    name, thing, verb = say(NAMES[problem.name]), say(THINGS[problem.thing]), say(HAVING)
    if language == "en":
        return f"{name} {verb} {problem.first} {thing} ."
    return f"{name} は {thing} を {problem.first} 個 {verb} 。"


def acts(problem: Problem, language: Language, voice: Voice | None = None) -> str:
    """The second sentence of the story."""
    say = voice or VOICES[language]
    name, verb = say(NAMES[problem.name]), say(VERBS[problem.verb])
    if language == "en":
        return f"{name} {verb} {problem.second} ."
    return f"{name} は {problem.second} 個 {verb} 。"


def story(problem: Problem, language: Language, voice: Voice | None = None) -> str:
    return f"{has(problem, language, voice)} {acts(problem, language, voice)}"


def asks(thing: int, language: Language, voice: Voice | None = None) -> str:
    word = (voice or VOICES[language])(THINGS[thing])
    return f"how many {word} ?" if language == "en" else f"{word} は 何 個 です か ?"


def answers(number: int, language: Language) -> str:
    return f"the answer is {number} ." if language == "en" else f"答え は {number} 個 です 。"


def question(problem: Problem, language: Language) -> str:
    """The problem as it is asked."""
    return f"{story(problem, language)} {asks(problem.thing, language)}"


def solution(problem: Problem, language: Language) -> str:
    """The reasoning and the answer."""
    return f"= {problem.equation} {'.' if language == 'en' else '。'} {answers(problem.answer, language)}"
