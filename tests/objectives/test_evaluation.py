"""A small random model, scored by us and by transformers."""

import json
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import transformers
import typer
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import jaxmerge
from jaxmerge.cli.evaluate import command
from jaxmerge.converters.convert import convert
from jaxmerge.errors import InputError
from jaxmerge.objectives.evaluation import Evaluation

LINES = [
    {"q": "What is 12 + 30? ", "a": "The answer is 42."},
    {"q": "The quick brown", "a": " fox"},
    {"q": "答えは", "a": " 42 です。"},
    {"q": "def f(x):\n    return", "a": " x ** 2\n"},
    {"q": "naïve café — the quick brown fox jumps over the lazy dog, twice. " * 3, "a": "りんごが３個"},
]
CONFIG = """
objectives:
  - {name: prose, kind: likelihood, data: {test: t.jsonl}, text: "{q}{a}"}
  - {name: reply, kind: likelihood, data: {test: t.jsonl}, prompt: "{q}", answer: "{a}", weight: 3}
  - {name: speak, kind: generate, data: {test: t.jsonl}, prompt: "{q}", answer: "{a}",
     metric: "own:length", max_new_tokens: 12}
"""


@pytest.fixture(scope="module")
def folder(byte_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, with data and config beside it."""
    root = tmp_path_factory.mktemp("evaluate")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(root / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (root / "model" / name).write_text((byte_folder / name).read_text())
    (root / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    (root / "config.yaml").write_text(CONFIG)
    (root / "own.py").write_text("def length(output, example):\n    return len(output) - len(example['a'])\n")
    return root


@pytest.fixture(scope="module")
def theirs(folder: Path):
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32), AutoTokenizer.from_pretrained(
        folder / "model"
    )


def mean_log_probability(theirs, ids: list[int], place: int) -> float:
    with torch.no_grad():
        logits = theirs[0](torch.tensor([ids])).logits[0, :-1].double()
    picked = torch.log_softmax(logits, -1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])]
    return picked[place - 1 :].mean().item()


@pytest.fixture(scope="module")
def evaluation(folder: Path) -> Evaluation:
    return jaxmerge.evaluate(folder / "model", folder / "config.yaml")


def test_the_cache_has_the_dtype_that_the_search_had(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxmerge.objectives.evaluation.SingleModel", asked := Mock(side_effect=InterruptedError))
    config = folder / "narrow.yaml"
    for written, dtype in (("{dtype: float32, cache: bfloat16, chunk: 2}", "bfloat16"), ("{chunk: 2}", "None")):
        config.write_text(f"{CONFIG}runtime: {written}\n")
        with pytest.raises(InterruptedError):
            jaxmerge.evaluate(folder / "model", config)
        assert str(asked.call_args.kwargs["cache"]) == dtype


def test_likelihoods_equal_those_of_transformers(evaluation, theirs) -> None:
    tokenizer = theirs[1]
    for i, line in enumerate(LINES):
        ids = tokenizer.encode(line["q"] + line["a"])
        place = len(tokenizer.encode(line["q"].rstrip()))
        prose, reply = (evaluation.objectives[name].scored.examples[0, i] for name in ("prose", "reply"))
        assert prose == pytest.approx(mean_log_probability(theirs, ids, 1), abs=1e-5)
        assert reply == pytest.approx(mean_log_probability(theirs, ids, place), abs=1e-5)
        tie = evaluation.objectives["speak"].scored.ties[0]
    assert tie == pytest.approx(evaluation.objectives["reply"].score, abs=1e-5)


def test_greedy_texts_equal_those_of_transformers(evaluation, theirs) -> None:
    model, tokenizer = theirs
    [outputs] = evaluation.objectives["speak"].scored.outputs
    for line, output in zip(LINES, outputs, strict=True):
        given = tokenizer(line["q"], return_tensors="pt")
        ids = model.generate(**given, max_new_tokens=12, do_sample=False)[0, given["input_ids"].shape[1] :]
        assert output == tokenizer.decode(ids, skip_special_tokens=True)


def test_scores_are_weighted_and_have_intervals(evaluation) -> None:
    scores = {name: result.score for name, result in evaluation.objectives.items()}
    assert evaluation.score == pytest.approx((scores["prose"] + 3 * scores["reply"] + scores["speak"]) / 5)
    for result in evaluation.objectives.values():
        assert result.n == 5 and result.interval[0] < result.score < result.interval[1]


PROSE = {"name": "x", "kind": "likelihood", "data": {"test": "t.jsonl"}, "text": "{q}{a}"}


def test_a_list_of_objectives_and_a_file_agree(folder: Path, evaluation, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    alone = jaxmerge.evaluate("model", [PROSE])
    assert alone.score == evaluation.objectives["prose"].score


def test_an_example_scores_the_same_alone(folder: Path, evaluation, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    alone = jaxmerge.evaluate("model", [PROSE | {"limit": 1}])
    assert alone.score == pytest.approx(evaluation.objectives["prose"].scored.examples[0, 0], abs=2e-6)


def test_a_flax_folder_scores_the_same(folder: Path, evaluation, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    convert(folder / "model", folder / "flax")
    assert jaxmerge.evaluate("flax", [PROSE]).score == evaluation.objectives["prose"].score


def test_bfloat16_comes_close(folder: Path, evaluation, monkeypatch) -> None:
    monkeypatch.chdir(folder)
    rough = jaxmerge.evaluate("model", [PROSE | {"limit": 1}], dtype="bfloat16")
    assert 0 < abs(rough.score - evaluation.objectives["prose"].scored.examples[0, 0]) < 0.1


@pytest.mark.parametrize(
    "split, text, message",
    [
        ("validation", CONFIG, r"prose: no data for split 'validation'; there are: test"),
        ("test", "space: {}", r"the key 'objectives' is missing"),
        ("test", CONFIG.replace("kind: generate", "kin: generate"), r"config\.yaml:5: .*unknown key 'kin'"),
        ("test", CONFIG.replace("own:length", "own:absent"), r"speak\.metric: .*has no 'absent'"),
    ],
)
def test_bad_input(folder: Path, split: str, text: str, message: str) -> None:
    (folder / "bad").mkdir(exist_ok=True)
    for name in ("t.jsonl", "own.py"):
        (folder / "bad" / name).write_text((folder / name).read_text())
    (folder / "bad" / "config.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        jaxmerge.evaluate(folder / "model", folder / "bad" / "config.yaml", split)


def test_command_line(folder: Path, evaluation, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(command)
    arguments = [str(folder / "model"), str(folder / "config.yaml")]
    done = CliRunner().invoke(app, [*arguments, "--json", "--examples", str(tmp_path / "examples.jsonl")])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == json.loads(json.dumps(evaluation.summary()))
    rows = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert len(rows) == 15 and rows[-1].keys() == {"objective", "prompt", "output", "score"}
    assert rows[-1]["prompt"] == LINES[-1]["q"] and rows[0]["output"] is None
    scores = [row["score"] for row in rows if row["objective"] == "speak"]
    assert np.mean(scores) == pytest.approx(evaluation.objectives["speak"].score)
    nowhere = CliRunner().invoke(app, ["no model is opened", *arguments[1:], "--examples", str(tmp_path / "no" / "x")])
    assert isinstance(nowhere.exception, InputError) and "there is no folder" in str(nowhere.exception)
    table = CliRunner().invoke(app, arguments).stdout
    assert "Scores on test" in table and f"{evaluation.score:.4f}" in table
