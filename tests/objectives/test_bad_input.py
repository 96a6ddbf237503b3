"""What is wrong with a config or its data is one line that names key, file and line."""

from pathlib import Path

import numpy as np
import pytest

from jaxmerge.errors import InputError
from jaxmerge.objectives.loading import build
from jaxmerge.objectives.schema import read_objectives
from jaxmerge.tokens.tokenizer import Tokenizer

GOOD = {"name": "it", "kind": "likelihood", "data": {"search": "s.jsonl"}, "text": "{text}"}
ANSWERED = {"name": "it", "kind": "generate", "data": {"search": "s.jsonl"}, "prompt": "{q}", "answer": "{a}"}


@pytest.mark.parametrize(
    "config, message",
    [
        (GOOD | {"kindd": 1}, "unknown key 'kindd'; did you mean 'kind'"),
        (GOOD | {"data": {"serch": "s"}}, "unknown key 'serch'; did you mean 'search'"),
        (GOOD | {"data": {}}, "data names no file"),
        (GOOD | {"limit": 0}, ".*greater than or equal to 1, not 0"),
        (GOOD | {"limit": "3"}, ".*integer, not '3'"),
        (GOOD | {"weight": 0}, "greater than 0"),
        (GOOD | {"weight": float("nan")}, "finite"),
        (GOOD | {"metric": "exact"}, "key 'metric' means nothing to kind 'likelihood'"),
        (GOOD | {"prompt": "{q}"}, "either 'text', or 'prompt' and 'answer'"),
        (GOOD | {"text": None}, "either 'text', or 'prompt' and 'answer'"),
        (GOOD | {"text": None, "prompt": "{q}"}, "needs 'answer'"),
        (GOOD | {"kind": "caption"}, "'caption' .*not available yet"),
        (GOOD | {"kind": "classify"}, "'classify' .*not available yet"),
        (GOOD | {"kind": "lm_eval"}, "'lm_eval' is not available yet"),
        (ANSWERED, "needs 'metric': exact, contains, last_number, rouge_l, brevity or module:function"),
        (ANSWERED | {"metric": "rouge_l", "answer": None}, "metric 'rouge_l' needs 'answer'"),
        (ANSWERED | {"metric": "exact", "answer": None}, "metric 'exact' needs 'answer'"),
        (ANSWERED | {"metric": "exact", "kind": "python"}, "metric of your own"),
        (ANSWERED | {"metric": "exact", "system": "x"}, "chat_template: true"),
        (ANSWERED | {"metric": "exact", "few_shot": 1}, "data.few_shot"),
        (ANSWERED | {"metric": "exact", "stop": "\n"}, "list"),
        (ANSWERED | {"metric": "exact", "truncate": "right"}, "'left', not 'right'"),
        (ANSWERED | {"kind": "choice"}, "choice needs 'choices'"),
    ],
)
def test_bad_configs(config: dict, message: str) -> None:
    with pytest.raises(InputError, match=rf"^objectives\[0\].*: .*{message}") as caught:
        read_objectives([config])
    assert "\n" not in str(caught.value)


def test_a_resolved_config_reads_back() -> None:
    [config] = read_objectives([ANSWERED | {"metric": "exact"}])
    assert read_objectives([config.model_dump()]) == [config]


def test_names_are_unique_and_there_is_an_objective() -> None:
    with pytest.raises(InputError, match="two objectives are named 'it'"):
        read_objectives([GOOD, GOOD])
    with pytest.raises(InputError, match=r"objectives: .*at least 1"):
        read_objectives([])


@pytest.mark.parametrize(
    "lines, message",
    [
        ("", r"search\.jsonl: no examples"),
        ("\n\n", r"search\.jsonl: no examples"),
        ('{"text": "a b"}\n\n{"text": \n', r"search\.jsonl:3: not JSON"),
        ('{"text": "a b"}\n["a"]\n', r"search\.jsonl:2: a list"),
        ('{"text": "a b"}\n{"txt": "a"}\n', r"it\.text: .*search\.jsonl:2: no field 'text'; the data has: txt"),
        ('{"text": null}\n', r"search\.jsonl:1: field 'text' is null"),
        ('{"text": ""}\n', r"search\.jsonl:1: no tokens"),
        ('{"text": "a"}\n', r"search\.jsonl:1: no token counts"),
        ('{"text": "a b"}\n{"text": "a b c d e"}\n', r"search\.jsonl:2: 5 tokens, more than max_length 4"),
    ],
)
def test_bad_data(make, lines: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(lines, kind="likelihood", text="{text}", max_length=4)
    assert "\n" not in str(caught.value)


def test_data_that_cannot_be_read(make, tmp_path: Path, word_folder: Path) -> None:
    [config] = read_objectives([GOOD])
    with pytest.raises(InputError, match=r"s\.jsonl: cannot be read \(No such file"):
        build([config], Tokenizer.open(word_folder), tmp_path)
    (tmp_path / "s.jsonl").write_bytes(b'{"text": "a b"}\n{"text": "\xff"}\n')
    with pytest.raises(InputError, match=r"s\.jsonl:2: not UTF-8"):
        build([config], Tokenizer.open(word_folder), tmp_path)


@pytest.mark.parametrize("metric, answer, message", [("last_number", "five", "no number"), ("contains", " ", "empty")])
def test_answers_that_cannot_be_matched(make, metric: str, answer: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"it\.answer: .*search\.jsonl:1: .*{message}"):
        make([{"q": "a", "a": answer}], kind="generate", prompt="{q}", answer="{a}", metric=metric)


def test_mistakes_in_the_test_data_show_at_once(make) -> None:
    good = [{"text": "a b"}]
    with pytest.raises(InputError, match=r"test\.jsonl:1: no field 'text'"):
        make({"search": good, "test": [{"x": 1}]}, kind="likelihood", text="{text}")


def test_truncation_keeps_the_end(make, words) -> None:
    row = {"q": "a b c d e", "a": " f g"}
    objective = make([row], kind="likelihood", prompt="{q}", answer="{a}", max_length=4, truncate="left")
    [[tokens]] = objective.split("search").references
    assert words.decode(tokens.ids) == "d e f g" and tokens.counted_from == 2
    objective = make([row], kind="likelihood", prompt="{q}", answer="{a}", max_length=2, truncate="left")
    [[tokens]] = objective.split("search").references
    assert words.decode(tokens.ids) == "f g" and tokens.counted_from == 1


def test_limit_and_absent_splits(make) -> None:
    objective = make([{"text": "a b"}] * 9, kind="likelihood", text="{text}", limit=4)
    assert objective.splits() == {"search": 4}
    with pytest.raises(InputError, match=r"it: no data for split 'test'.*data\.test"):
        objective.split("test")


def test_test_data_that_repeats_search_data_is_warned_of(make) -> None:
    rows = [{"text": "a b"}, {"text": "c d"}]
    with pytest.warns(UserWarning, match="it: 1 of 2 examples of the test data are also in the search data"):
        make({"search": rows, "test": [{"text": " c d", "id": 7}, {"text": "e f"}]}, kind="likelihood", text="{text}")


def test_a_tokenizer_of_another_model_is_noticed(make, tmp_path: Path, word_folder: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"text": "a b です"}\n')
    configs = read_objectives([GOOD])
    with pytest.raises(InputError, match=r"s\.jsonl:1: token \d+ .* outside the model's vocabulary of 8"):
        build(configs, Tokenizer.open(word_folder), tmp_path, vocab_size=8)


def test_unknown_kinds_name_the_nearest(make, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown kind 'generat'; did you mean 'generate'"):
        make([{"text": "a b"}], kind="generat", text="{text}")
    (tmp_path / "mine.py").write_text(
        "class Mine:\n    def __init__(self, config, tokenizer, folder):\n        self.config = config\n"
    )
    assert type(make([{"text": "a b"}], kind="mine:Mine")).__name__ == "Mine"


def test_arrays_are_of_the_promised_types(make, fake_runner) -> None:
    scored = make([{"text": "a b"}], kind="likelihood", text="{text}").score(fake_runner(), "search")
    assert scored.examples.dtype == np.float32 and scored.ties.dtype == np.float32
