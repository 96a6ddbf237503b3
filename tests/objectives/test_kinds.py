"""The kinds of objectives, on runners whose answers are known."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from jaxmerge.errors import InputError
from jaxmerge.objectives.interface import Block, Runner, Scored
from jaxmerge.objectives.likelihood import Likelihood
from jaxmerge.search.engines.requirements import require_references
from jaxmerge.tokens.tokenizer import Tokenizer

SUMS = [{"q": "1 + 2 =", "a": " 3"}, {"q": "a b c 4 + 5 =", "a": " 9"}, {"q": "0 + 7 =", "a": " the answer is 7"}]
GENERATE = {"kind": "generate", "prompt": "{q}", "answer": "{a}", "metric": "last_number", "max_new_tokens": 6}


def test_likelihood_of_texts(make, fake_runner, expected_mean, words) -> None:
    texts = ["a b c", "1 + 2 = 3 .", "the answer is 5 . " * 6 + "a"]
    objective = make([{"text": text} for text in texts], kind="likelihood", text="{text}")
    scored = objective.score(fake_runner(3), "search")
    for model in range(3):
        expected = [expected_mean(words.encode(text), 1, model) for text in texts]
        np.testing.assert_allclose(scored.examples[model], expected, rtol=1e-6)
    assert not objective.discrete and objective.splits() == {"search": 3}
    assert scored.prompts == texts and not scored.ties.any()


def test_entropy_of_texts_needs_no_labels_and_is_to_fall(make, fake_runner, expected_mean, words) -> None:
    texts = ["a b c", "1 + 2 = 3 ."]
    objective = make([{"text": text} for text in texts], kind="entropy", text="{text}")
    scored = objective.score(fake_runner(2), "search")
    for model in range(2):
        expected = [expected_mean(words.encode(text), 1, model) for text in texts]
        np.testing.assert_allclose(scored.examples[model], expected, rtol=1e-6)
    reference = objective.reference("search")
    assert reference.quantity == "entropy" and reference.is_score
    sums = fake_runner(1).entropy(reference.batch)[0]
    np.testing.assert_allclose((reference.shares * sums).sum(), scored.examples[0].mean(), rtol=1e-6)
    for config, message in (({}, "entropy needs 'text'"), ({"text": "{text}", "answer": "{text}"}, "key 'answer'")):
        with pytest.raises(InputError, match=message):
            make([{"text": "a"}], kind="entropy", **config)


def test_likelihood_of_answers_counts_their_tokens_only(make, fake_runner, expected_mean, words) -> None:
    objective = make(SUMS, kind="likelihood", prompt="{q}", answer="{a}")
    scored = objective.score(fake_runner(), "search")
    for i, row in enumerate(SUMS):
        ids = words.encode(row["q"] + row["a"])
        assert scored.examples[1, i] == pytest.approx(expected_mean(ids, len(words.encode(row["q"])), 1))


@pytest.mark.parametrize("kind", ["likelihood", "generate"])
def test_a_score_does_not_depend_on_the_other_examples(make, fake_runner, kind: str) -> None:
    config = GENERATE if kind == "generate" else {"kind": kind, "prompt": "{q}", "answer": "{a}"}
    runner = fake_runner(2, lambda prompt, model: [*prompt[-3:], 2])
    filler = [{"q": "a b c " * n + "=", "a": " 1"} for n in (1, 7, 20, 33)]
    together = make([*filler, *SUMS], **config).score(runner, "search")
    for i, row in enumerate(SUMS):
        alone = make([row], **config).score(runner, "search")
        assert np.array_equal(alone.examples[:, 0], together.examples[:, len(filler) + i])
        if kind == "generate":
            assert [o[0] for o in alone.outputs] == [o[len(filler) + i] for o in together.outputs]


CHOICES = [
    {"q": "the answer is", "options": [" a", " b c", " d e f"], "right": 1},
    {"q": "1 + 2 = ", "options": ["3", "4"], "right": 0},
]


@pytest.mark.parametrize("normalize", ["none", "tokens", "characters"])
def test_choice_takes_the_most_likely_option(make, fake_runner, expected_mean, words, normalize: str) -> None:
    objective = make(
        CHOICES, kind="choice", prompt="{q}", choices="{options}", answer="{right}", normalize=normalize
    )
    scored = objective.score(fake_runner(4), "search")
    assert objective.discrete and set(scored.examples.flat) <= {0.0, 1.0}
    ties = np.zeros((4, 2))
    for model in range(4):
        for i, row in enumerate(CHOICES):
            place = len(words.encode(row["q"].rstrip()))
            ids = [words.encode(row["q"] + option) for option in row["options"]]
            means = np.array([expected_mean(tokens, place, model) for tokens in ids])
            counts = np.array([len(tokens) - place for tokens in ids])
            lengths = np.array([len(option) for option in row["options"]])
            values = {"none": means * counts, "tokens": means, "characters": means * counts / lengths}[normalize]
            assert scored.examples[model, i] == float(values.argmax() == row["right"])
            assert scored.outputs[model][i] == row["options"][values.argmax()]
            ties[model, i] = means[row["right"]]
    np.testing.assert_allclose(scored.ties, ties.mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    "options, answer, right",
    [
        (["a", "b", "c"], 2, 2), (["a", "b", "c"], "b", 1), (["a", "b"], "1", 1), ([" a", " b"], "b", 1),
        (["3", "1", "2"], "1", 1), ([3, 1, 2], 1, 1), ([7, 8], 8, 1),
    ],
)  # fmt: skip
def test_the_answer_of_a_choice_is_an_option_or_its_number(make, options, answer, right: int) -> None:
    row = {"q": "the", "o": options, "r": answer}
    objective = make([row], kind="choice", prompt="{q} ", choices="{o}", answer="{r}")
    assert objective.split("search").rights == [right]


@pytest.mark.parametrize(
    "row, message",
    [
        ({"o": ["a", "b"], "r": 2}, "none of the 2 options"), ({"o": ["a", "b"], "r": "x"}, "none of the 2 options"),
        ({"o": "a", "r": 0}, "must hold a list"), ({"o": ["a"], "r": 0}, "at least 2"), ({"r": 0}, "no field 'o'"),
        ({"o": ["a", "b"], "r": -1}, "none of the 2 options"), ({"o": [7, 8], "r": 1}, "none of the 2 options"),
    ],
)  # fmt: skip
def test_bad_choices_name_key_and_line(make, row: dict, message: str) -> None:
    with pytest.raises(InputError, match=rf"it\.(choices|answer): .*search\.jsonl:1: .*{message}"):
        make([{"q": "the", **row}], kind="choice", prompt="{q} ", choices="{o}", answer="{r}")


def test_generate_scores_outputs_and_breaks_ties_by_the_reference(
    make, fake_runner, expected_mean, words
) -> None:
    def speak(prompt: list[int], model: int) -> list[int]:
        number = {"1": "3", "a": "9", "0": "8"}[words.decode(prompt[:1])]
        return [*words.encode("the answer is " + (number if model == 0 else "1")), 2, 5]

    runner = fake_runner(2, speak)
    scored = make(SUMS, **GENERATE).score(runner, "search")
    assert scored.examples.tolist() == [[1, 1, 0], [0, 0, 0]]
    assert scored.outputs[0] == ["the answer is 3", "the answer is 9", "the answer is 8"]
    for model in range(2):
        means = [
            expected_mean(words.encode(row["q"] + row["a"]), len(words.encode(row["q"])), model) for row in SUMS
        ]
        assert scored.ties[model] == pytest.approx(np.mean(means))


def test_every_eos_id_and_a_special_stop_token_end_a_text(make, fake_runner, words) -> None:
    runner = fake_runner(1, lambda prompt, model: words.encode("3 <s> 4"))
    scored = make(SUMS, **GENERATE, stop=["<s>"]).score(runner, "search")
    assert runner.stop_ids == (1, 2) and scored.outputs[0] == ["3"] * 3


@pytest.mark.parametrize("stop, text", [(["?"], "the answer "), (["is", "answer"], "the "), ([], "the answer ? is 3")])
def test_the_output_is_cut_at_the_first_stop_string(make, fake_runner, words, stop, text: str) -> None:
    runner = fake_runner(1, lambda prompt, model: words.encode("the answer ? is 3"))
    assert make(SUMS, **GENERATE, stop=stop).score(runner, "search").outputs == [[text] * 3]


def test_the_language_gate_looks_at_the_output(make, fake_runner, words) -> None:
    texts = ["答え は 3 です 個", "the answer is 3", "3 個", "3"]
    runner = fake_runner(4, lambda prompt, model: words.encode(texts[model]))
    scored = make(SUMS[:1], **GENERATE, language="ja").score(runner, "search")
    assert scored.examples[:, 0].tolist() == [1, 0, 0, 0]
    with pytest.raises(InputError, match=r"it\.language: unknown language 'jp'"):
        make(SUMS, **GENERATE, language="jp")


def test_brevity_counts_tokens_before_the_end(make, fake_runner, words) -> None:
    texts = ["the answer is 3", "", "the answer is 3 = = = =", "the ? is 3"]
    runner = fake_runner(4, lambda prompt, model: words.encode(texts[model]))
    config = {"kind": "generate", "prompt": "{q}", "metric": "brevity", "max_new_tokens": 6, "stop": ["?"]}
    objective = make(SUMS, **config)
    scored = objective.score(runner, "search")
    np.testing.assert_allclose(scored.examples[:, 0], [1 - 4 / 6, 1, 0, 1 - 1 / 6], rtol=1e-6)
    assert not objective.discrete and scored.errors == [None] * 4
    gated = make(SUMS, **config, language="en").score(runner, "search")
    assert gated.examples[1, 0] == 0 and gated.examples[0, 0] == scored.examples[0, 0]


def test_few_shot_examples_stand_before_the_prompt(make, fake_runner, words) -> None:
    seen = []
    runner = fake_runner(1, lambda prompt, model: seen.append(words.decode(prompt)) or [2])
    shots = [{"q": "a =", "a": " 1"}, {"q": "b =", "a": " 2"}, {"q": "c =", "a": " 3"}]
    objective = make({"search": SUMS, "few_shot": shots}, **GENERATE, few_shot=2)
    objective.score(runner, "search")
    assert objective.split("search").texts[0] == "a = 1\n\nb = 2\n\n1 + 2 ="
    with pytest.raises(InputError, match=r"few_shot.* has 3 examples, fewer than 4"):
        make({"search": SUMS, "few_shot": shots}, **GENERATE, few_shot=4)


def test_a_chat_template_makes_turns_of_the_shots(make, fake_runner, byte_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(byte_folder, tmp_path / "chat")
    (tmp_path / "chat" / "chat_template.jinja").write_text(
        "<s>{% for m in messages %}<|user|>{{ m.role }}: {{ m.content }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}assistant:{% endif %}"
    )
    tokenizer, seen = Tokenizer.open(tmp_path / "chat"), []
    runner = fake_runner(1, lambda prompt, model: seen.append(prompt) or [2])
    splits = {"search": [{"q": "3 + 3 =", "a": " 6"}], "few_shot": [{"q": "1 + 1 =", "a": " 2"}]}
    chat = {"chat_template": True, "system": "Be brief.", "few_shot": 1}
    make(splits, tmp_path / "chat", **GENERATE, **chat).score(runner, "search")
    expected = (
        "<s><|user|>system: Be brief.<|end|><|user|>user: 1 + 1 =<|end|><|user|>assistant: 2<|end|>"
        "<|user|>user: 3 + 3 =<|end|>assistant:"
    )
    assert seen == [tokenizer.encode(expected, special=False)] and seen[0].count(1) == 1
    with pytest.raises(InputError, match="no chat template"):
        make(splits, byte_folder, **GENERATE, **chat)


def test_a_metric_of_the_users_own(make, fake_runner, words, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from beside import half\ndef metric(output, example):\n    return half(len(output) + len(example['q']))\n"
        "def fails(output, example):\n    raise ValueError('odd')\n"
        "def whole(outputs, examples):\n    return [len(o) - len(e['q']) for o, e in zip(outputs, examples)]\n"
        "def short(outputs, examples):\n    return [1.0]\n"
    )
    (tmp_path / "beside.py").write_text("def half(x):\n    return x / 2\n")
    runner = fake_runner(2, lambda prompt, model: words.encode("a b" if model else "a"))
    config = GENERATE | {"metric": "own:metric"}
    objective = make(SUMS, **config)
    assert not objective.discrete
    assert objective.score(runner, "search").examples[:, 0].tolist() == [4.0, 5.0]
    python = make(SUMS, **config | {"kind": "python", "metric": "own:whole"})
    assert python.score(runner, "search").examples[1].tolist() == [-4.0, -10.0, -4.0]
    failed = make(SUMS, **config | {"metric": "own:fails"}).score(runner, "search")
    assert np.isnan(failed.examples).all() and "own:fails raised ValueError" in failed.errors[0]
    failed = make(SUMS, **config | {"kind": "python", "metric": "own:short"}).score(runner, "search")
    assert np.isnan(failed.examples).all() and "(1,) for 3 outputs" in failed.errors[1]
    for metric, message in [("own:absent", "has no 'absent'"), ("absent:f", "cannot import module 'absent'")]:
        with pytest.raises(InputError, match=rf"it\.metric: .*{message}"):
            make(SUMS, **config | {"metric": metric})


def test_sampled_examples_are_the_same_for_prompts_and_references(make, fake_runner, words) -> None:
    rows = [{"q": f"{'a ' * (i % 9)}{i % 10} =", "a": f" {i % 10}"} for i in range(40)]
    objective = make(rows, **GENERATE, sample=10)
    runner = fake_runner(1, lambda prompt, model: [prompt[-2], 2])
    draws = [objective.score(runner, "search", draw=seed) for seed in (0, 1, 0)]
    assert all(scored.examples.shape == (1, 10) and scored.examples.all() for scored in draws)
    assert draws[0].prompts == draws[2].prompts != draws[1].prompts
    assert objective.score(runner, "search").examples.shape == (1, 40)


def test_a_score_of_ones_own_is_not_what_a_gradient_gives() -> None:
    class Robust(Likelihood):
        def score(self, runner: Runner, split: str, draw: int | None = None, block: Block | None = None) -> Scored:
            return super().score(runner, split, draw, block)

    assert Likelihood.is_smooth and not Robust.is_smooth
    with pytest.raises(InputError, match=r"'odd' gives a gradient nothing to follow"):
        require_references([SimpleNamespace(name="odd")])
