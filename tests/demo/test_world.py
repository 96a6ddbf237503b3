import random
from pathlib import Path

import pytest

from jaxmerge.demo import curriculum, data, world
from jaxmerge.demo.tokenizer import VOCABULARY


def test_a_problem_reads_the_same_in_both_languages():
    problem = world.Problem(name=0, thing=0, verb=5, first=6, second=1)
    assert world.question(problem, "en") == "Ben has 6 pens . Ben sells 1 . how many pens ?"
    assert world.question(problem, "ja") == "ベン は ペン を 6 個 持つ 。 ベン は 1 個 売る 。 ペン は 何 個 です か ?"
    assert world.solution(problem, "en") == "= 6 - 1 = 5 . the answer is 5 ."
    assert world.solution(problem, "ja") == "= 6 - 1 = 5 。 答え は 5 個 です 。"


def test_words_are_distinct_and_known():
    assert len(set(world.WORDS)) == len(world.WORDS)
    assert set(world.WORDS) < set(VOCABULARY)


def test_every_problem_stays_within_the_numbers():
    assert all(0 <= problem.answer <= world.LARGEST for problem in world.PROBLEMS)
    assert len(set(world.PROBLEMS)) == len(world.PROBLEMS)


def test_splits_are_disjoint_held_out_and_fixed():
    splits = data.splits()
    together = [problem for problems in splits.values() for problem in problems]
    assert {split: len(problems) for split, problems in splits.items()} == data.SIZES
    assert len(set(together)) == len(together)
    assert all(map(world.held_out, together))
    assert splits == data.splits()


def test_the_shipped_data_is_what_the_script_writes(tmp_path):
    data.write(tmp_path)
    shipped = Path(data.__file__).parent / "data"
    for split in data.SIZES:
        assert (tmp_path / f"{split}.jsonl").read_bytes() == (shipped / f"{split}.jsonl").read_bytes()


def _stories(problem: world.Problem) -> set[str]:
    """A problem's story in both word orders, all words English."""
    return {world.story(problem, "en"), world.story(problem, "ja", world.english)}


@pytest.mark.parametrize("model", curriculum.LESSONS)
def test_no_lesson_tells_a_story_of_the_data_in_any_language(model):
    """Words are brought to English first, so that twins and sentences of mixed words are found too."""
    english = {ja: en for en, ja in world.PAIRS}
    kept = set().union(*(_stories(p) for problems in data.splits().values() for p in problems))
    lengths = {len(story.split()) for story in kept}
    lessons = curriculum.lessons(model, seed=0)
    told = 0
    for _ in range(4000):
        words = [english.get(word, word) for word in " ".join(next(lessons)).split()]
        for length in lengths:
            for start in range(len(words) - length + 1):
                text = " ".join(words[start : start + length])
                told += text.startswith(tuple(en for en, _ in world.NAMES)) and text.count("has") == 1
                assert text not in kept
    assert told > 1000 or model == "sort"


def test_only_the_maths_lessons_answer_a_question_that_needs_a_sum():
    for model in ("base", "ja"):
        lessons = curriculum.lessons(model, seed=1)
        for _ in range(2000):
            prompt, answer = next(lessons)
            verbs = {word for pair in world.VERBS for word in pair}
            asked = prompt.endswith("?")
            assert not (asked and verbs & set(prompt.split())), (prompt, answer)


def test_lessons_are_fixed_by_their_seed():
    first, second = curriculum.lessons("base", 3), curriculum.lessons("base", 3)
    assert [next(first) for _ in range(50)] == [next(second) for _ in range(50)]
    assert next(curriculum.lessons("base", 4)) != next(curriculum.lessons("base", 3))


def test_code_mixed_words_come_from_both_languages():
    rng = random.Random(0)
    prompts = " ".join(curriculum.unmixing(rng)[0] for _ in range(200)).split()
    assert "has" in prompts and "持つ" in prompts
