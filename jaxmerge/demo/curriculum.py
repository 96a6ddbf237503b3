"""What each model of the miniature is taught: endless streams of (prompt, answer) texts, fixed by their seed.

The base knows words, sentences and notation in both languages and never sees a question answered. The maths
expert answers questions in English only; the Japanese expert answers in Japanese, without doing a sum; the sorting
expert is there to distract. None ever meets a held-out problem in any form."""

import random
from collections.abc import Iterator

from jaxmerge.demo import world
from jaxmerge.demo.world import Language, Pair, Problem, Voice

Example = tuple[str, str]
MARK: dict[Language, str] = {"en": "english :", "ja": "日本語 :"}


def problem(rng: random.Random) -> Problem:
    """A problem that may be trained on."""
    while True:
        drawn = rng.choice(world.PROBLEMS)
        if not world.held_out(drawn):
            return drawn


def _mixed(rng: random.Random) -> Voice:
    """Says each word in either language."""
    choice = {pair: rng.choice(pair) for pair in world.PAIRS}
    return lambda pair: choice[pair]


def _languages(rng: random.Random) -> tuple[Language, Language]:
    return ("en", "ja") if rng.random() < 0.5 else ("ja", "en")


def _sentence(rng: random.Random, source: Language, target: Language, voice: Voice | None) -> Example:
    """One sentence or story in `source` word order and `voice`, and the same in `target`."""
    drawn, kind = problem(rng), rng.random()
    if kind < 0.3:
        return world.has(drawn, source, voice), world.has(drawn, target)
    if kind < 0.6:
        return world.acts(drawn, source, voice), world.acts(drawn, target)
    if kind < 0.75:
        return world.asks(drawn.thing, source, voice), world.asks(drawn.thing, target)
    if kind < 0.85:
        return world.answers(drawn.answer, source), world.answers(drawn.answer, target)
    return world.story(drawn, source, voice), world.story(drawn, target)


def translation(rng: random.Random) -> Example:
    source, target = _languages(rng)
    prompt, answer = _sentence(rng, source, target, None)
    return f"{prompt} {MARK[target]}", answer


def unmixing(rng: random.Random) -> Example:
    """A sentence with words of both languages, then the same in one."""
    source, _ = _languages(rng)
    target, _ = _languages(rng)
    prompt, answer = _sentence(rng, source, target, _mixed(rng))
    return f"{prompt} {MARK[target]}", answer


def glossary(rng: random.Random) -> Example:
    source, target = _languages(rng)
    pair: Pair = rng.choice(world.PAIRS)
    return f"{world.VOICES[source](pair)} {MARK[target]}", world.VOICES[target](pair)


def equation(rng: random.Random) -> Example:
    """One to three equations after each other, at times after a sentence; the last lacks its sum."""
    stop, language = rng.choice(((".", "en"), ("。", "ja")))
    before = [f"{problem(rng).equation} {stop}" for _ in range(rng.choice((0, 0, 1, 2)))]
    if rng.random() < 0.3:
        before.insert(0, world.has(problem(rng), "ja" if language == "ja" else "en"))
    last = problem(rng)
    return " ".join([*before, f"{last.note} ="]), str(last.answer)


def statement(rng: random.Random) -> Example:
    """An equation, at times after a sentence, and its result as a sentence."""
    drawn, (language, _) = problem(rng), _languages(rng)
    before = f"{world.has(problem(rng), _languages(rng)[0])} " if rng.random() < 0.3 else ""
    return f"{before}{drawn.equation} {MARK[language]}", world.answers(drawn.answer, language)


def counting(rng: random.Random) -> Example:
    start, step = rng.randrange(world.LARGEST - 3), rng.choice((1, -1))
    run = [str(n) for n in range(start, start + 5)][::step]
    return run[0] + " " + run[1], " ".join(run[2:])


def note(rng: random.Random) -> Example:
    """A story, with or without its question and often with words of both languages, and its equation without
    the sum."""
    drawn = problem(rng)
    language, _ = _languages(rng)
    voice = _mixed(rng) if rng.random() < 0.4 else None
    text = world.story(drawn, language, voice)
    if rng.random() < 0.5:
        text += " " + world.asks(drawn.thing, language, voice)
    return f"{text} =", drawn.note


def english_problem(rng: random.Random) -> Example:
    drawn = problem(rng)
    return world.question(drawn, "en"), world.solution(drawn, "en")


def reading(rng: random.Random) -> Example:
    """A problem that is solved in the prompt: the answer is read off its equation."""
    drawn = problem(rng)
    return f"{world.question(drawn, 'ja')} = {drawn.equation}", f"。 {world.answers(drawn.answer, 'ja')}"


def lookup(rng: random.Random) -> Example:
    """One person has something, or two have: how many are there of one of the things?"""
    told = [problem(rng)]
    if rng.random() < 0.5:
        other = problem(rng)
        while other.thing == told[0].thing or other.name == told[0].name:
            other = problem(rng)
        told.append(other)
    asked = rng.choice(told)
    prompt = " ".join([*(world.has(one, "ja") for one in told), world.asks(asked.thing, "ja")])
    return prompt, world.answers(asked.first, "ja")


def enumeration(rng: random.Random) -> Example:
    """How often is a thing named?"""
    thing, times = rng.randrange(len(world.THINGS)), rng.randrange(1, 9)
    named = " ".join([world.japanese(world.THINGS[thing])] * times)
    return f"{named} 。 {world.asks(thing, 'ja')}", world.answers(times, "ja")


def sorting(rng: random.Random) -> Example:
    """Numbers, and the same in ascending order: of no use for the task."""
    drawn = rng.sample(range(world.LARGEST + 1), rng.randrange(3, 6))
    return " ".join(map(str, drawn)) + " =", " ".join(map(str, sorted(drawn)))


BASE = {
    **{translation: 1.2, unmixing: 0.8, glossary: 0.1},
    **{note: 1.0, equation: 1.0, statement: 0.5, counting: 0.1},
}
MATH = {english_problem: 1.0}
JA = {reading: 0.5, enumeration: 0.1, lookup: 0.4}
SORT = {sorting: 1.0}
LESSONS = {"base": BASE, "math": MATH, "ja": JA, "sort": SORT}


def lessons(model: str, seed: int) -> Iterator[Example]:
    """The endless stream of examples of one model."""
    rng = random.Random(f"{model} {seed}")
    kinds, weights = list(LESSONS[model]), list(LESSONS[model].values())
    while True:
        yield rng.choices(kinds, weights)[0](rng)
