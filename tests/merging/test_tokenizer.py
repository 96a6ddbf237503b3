"""Merges of models with different vocabularies, against mergekit's. Tokens are compared by name: mergekit's ids of
added tokens depend on its hash seed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging.merge import merge

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = {
    "tok_base_task_arithmetic": 63,
    "tok_modelA_task_arithmetic": 65,
    "tok_union_task_arithmetic": 66,
    "tok_union_legacy_linear": 66,
    "tok_tokens_pad64": 128,
}


@pytest.fixture(autouse=True)
def _paths_are_relative_to_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)


def vocabulary(folder: Path) -> dict[str, int]:
    return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()


@pytest.mark.parametrize("case", CASES)
def test_rows_agree_by_token(case: str, tmp_path: Path) -> None:
    out = merge(f"{case}/config.yaml", tmp_path / "out")
    ours, theirs = Checkpoint.open(out), Checkpoint.open(f"{case}/out")
    own, other = vocabulary(out), vocabulary(GOLDEN / case / "out")
    assert own.keys() == other.keys() and ours.config["vocab_size"] == CASES[case] == theirs.config["vocab_size"]
    mine = np.array([own[token] for token in other] + list(range(len(own), CASES[case])))
    their = np.array(list(other.values()) + list(range(len(other), CASES[case])))
    for name in theirs.tensors:
        a, b = ours.read(name), theirs.read(name)
        if name in ("model.embed_tokens.weight", "lm_head.weight"):
            a, b = a[mine], b[their]
        assert np.abs(a - b).max() <= 1e-6 * np.abs(b).max()


def test_added_ids_are_in_order_of_first_model(tmp_path: Path) -> None:
    out = merge("tok_union_task_arithmetic/config.yaml", tmp_path / "out")
    own = vocabulary(out)
    assert [own[token] for token in ("<|im_start|>", "<|im_end|>", "<|extra|>")] == [63, 64, 65]


RECIPE = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: inputs_tok/ftA}, {model: inputs_tok/ftB}]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tokenizer: {source: base}", "r.yaml:4: tokenizer: the tokenizer of the base needs the key 'base_model'"),
        ("tokenizer_source: inputs/base", r"inputs/base/tokenizer\.json: is missing"),
        ("tokenizer: {tokens: {x: {source: inputs_tok/base}}}", "inputs_tok/base is not one of the merged models"),
        ("tokenizer: {tokens: {x: {source: inputs_tok/ftA}}}", "inputs_tok/ftA has no token 'x'"),
        (
            "tokenizer: {tokens: {x: {source: {kind: model_token, model: inputs_tok/ftA, token_id: 999}}}}",
            "inputs_tok/ftA has no token 999",
        ),
        ("tokenizer: {tokens: {x: {source: {kind: model_token, model: inputs_tok/ftA}}}}", "exactly one of token"),
        ("tokenizer: {source: union}\ntokenizer_source: union", "exclude each other"),
        ("chat_template: chatlm", "r.yaml:4: chat_template: .*did you mean 'chatml'"),
    ],
)
def test_a_wrong_tokenizer_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE + text)
    with pytest.raises(InputError, match=message):
        merge(tmp_path / "r.yaml", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_a_tokenizer_different_vocabularies_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE)
    with pytest.raises(CheckpointError, match=r"inputs_tok/ftB: .*their vocabularies differ; set tokenizer"):
        merge(tmp_path / "r.yaml", tmp_path / "out")


def test_the_special_ids_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    folder = tmp_path / "other"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes(Path("inputs_tok/ftB", name).read_bytes())
    (folder / "config.json").write_text('{"eos_token_id": [5, 6], "vocab_size": 64}')
    (tmp_path / "r.yaml").write_text(RECIPE + "tokenizer: {source: other}")
    out = merge(tmp_path / "r.yaml", tmp_path / "out")
    assert json.loads((out / "config.json").read_text())["eos_token_id"] == [5, 6]
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [5, 6]
    assert vocabulary(out) == vocabulary(GOLDEN / "inputs_tok/ftB")


def test_a_chat_template_travels_with_the_model(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(RECIPE + "tokenizer: {source: union}\nchat_template: '{{ messages }}'")
    out = merge(tmp_path / "r.yaml", tmp_path / "out")
    assert (out / "chat_template.jinja").read_text() == "{{ messages }}"


def test_embeddings_stay_as_they_are_where_all_have_the_vocabulary(tmp_path: Path) -> None:
    """Rows behind the last token too."""
    for model in ("ft1", "ft2"):
        shutil.copytree(Path("inputs", model), tmp_path / model)
        (tmp_path / model / "tokenizer.json").write_text('{"model": {"type": "WordLevel", "vocab": {"a": 0, "b": 1}}}')
    recipe = "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: ft1}, {model: ft2}]\n"
    for name, more in (("plain", ""), ("same", "tokenizer_source: ft2"), ("cut", "tokenizer: {pad_to_multiple_of: 5}")):
        (tmp_path / f"{name}.yaml").write_text(recipe + more)
        merge(tmp_path / f"{name}.yaml", tmp_path / name)
    plain, same, cut = (Checkpoint.open(tmp_path / name) for name in ("plain", "same", "cut"))
    assert all(np.array_equal(plain.read(name), same.read(name)) for name in plain.tensors)
    assert cut.config["vocab_size"] == 5 and cut.read("lm_head.weight").shape == (5, 16)
