"""All that is wrong with a recipe is said at once, a line each, before a model is opened."""

from collections.abc import Callable
from pathlib import Path

import pytest

from jaxmerge.cli.main import main
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.errors import InputError
from jaxmerge.recipe.plan import Plan


def lines_of(plan: Callable[[str], Plan], text: str) -> list[str]:
    with pytest.raises(InputError) as failed:
        plan(text)
    return [line.rpartition("r.yaml:")[2] for line in str(failed.value).splitlines()]


def test_every_wrong_key_and_value_has_its_line(plan: Callable[[str], Plan]) -> None:
    found = lines_of(
        plan,
        """base_mode: inputs/base
merge_method: ties
dtype: float8
models:
  - modle: inputs/ft1
    parametres: {weight: 1}
  - model: inputs/ft2
    parameters: {weight: .inf, density: {filter: 3, value: 1}}
tokenizer: {tokens: {a: {sorce: x, force: 7}, b: {source: {kind: zeros}}}}
""",
    )
    assert [line.partition(":")[0] for line in found] == ["1", "3", "5", "6", "8", "8", "9", "9", "9"]
    assert found[0] == "1: unknown key 'base_mode'; did you mean 'base_model'?"
    assert found[3] == "6: models.0: unknown key 'parametres'; did you mean 'parameters'?"
    assert found[5] == "8: models.1.parameters.density: a filter is a part of a tensor's name, not 3"
    assert "tokenizer.tokens.b.source.kind" in found[8]


def test_what_only_the_operator_tells_is_said_together_too(plan: Callable[[str], Plan]) -> None:
    found = lines_of(
        plan,
        """merge_method: ties
models:
  - {model: inputs/ft8, parameters: {wieght: 1}}
  - {model: inputs/ft9, parameters: {density: 2}}
  - {model: inputs/ft1, parameters: {lambda: 1}}
chat_template: chatlm
""",
    )
    assert {line.partition(";")[0].partition(" (")[0] for line in found} == {
        "3: models.0.model: inputs/ft8: no such folder",
        "4: models.1.model: inputs/ft9: no such folder",
        "6: chat_template: unknown chat template 'chatlm'",
        "3: models.0.parameters: unknown parameter of ties 'wieght'",
        "4: models.1.parameters.density: must be in [0, 1], not 2",
        "5: models.2.parameters.lambda: is one value for the whole merge",
        found[-1].partition(";")[0].partition(" (")[0],
    }
    assert "ties needs the key 'base_model'" in found[-1]


def test_one_mistake_is_one_line(plan: Callable[[str], Plan]) -> None:
    """What follows of a misspelt key is not told beside it."""
    model = "models: [{model: inputs/ft1, parameters: {weight: 1}}]\n"
    assert len(lines_of(plan, "merge_methd: linear\n" + model)) == 1
    assert len(lines_of(plan, "merge_method: linear\n" + model.replace("models", "modelss"))) == 1
    assert len(lines_of(plan, "merge_method: linear\n" + model.replace("weight", "wieght"))) == 1
    assert len(lines_of(plan, "merge_method: lniear\n" + model)) == 1


def test_nothing_is_opened_or_fetched_for_a_wrong_recipe(
    plan: Callable[[str], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model was opened")

    monkeypatch.setattr(Checkpoint, "open", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    on_the_hub = "models: [{model: org/name}, {model: org/other, parameters: {weight: 1}}]\n"
    assert "models.0: linear needs the parameter 'weight'" in lines_of(plan, "merge_method: linear\n" + on_the_hub)[0]
    assert (
        "needs the key 'base_model'" in lines_of(plan, "merge_method: sce\n" + on_the_hub.split(", param")[0] + "}]")[0]
    )


def test_the_command_prints_all_documents_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("modles: []\n---\nname: a\nmodels: [{model: inputs/ft1}]\n")
    assert main(["merge", str(tmp_path / "r.yaml"), str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 2 and all(line.startswith("jaxmerge: ") for line in printed)
    assert "r.yaml:1: unknown key 'modles'" in printed[0]
    assert "r.yaml:3: the key 'merge_method' is missing" in printed[1]
