"""What `jaxmerge diff` says agrees with NumPy on whole tensors, and a picture of it is an XML document."""

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from lora_folder import product, write_lora
from miniature import checkpoints
from safetensors.numpy import load_file, save_file
from tiny_world import write_model

from jaxmerge.cli.main import main
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.errors import CheckpointError
from jaxmerge.merging import kinship
from jaxmerge.merging.difference import Difference, diff

Q = "model.layers.1.self_attn.q_proj.weight"


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    base, (tuned, _) = checkpoints()
    write_model(Path("base"), base)
    write_model(Path("tuned"), tuned)
    return tmp_path


def by_name(found: dict) -> dict[str, dict]:
    return {tensor["name"]: tensor for tensor in found["tensors"]}


def test_figures_are_those_of_the_whole_tensors(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kinship, "BLOCK", 40)
    found = diff("base", "tuned")
    one, two = Checkpoint.open("base"), Checkpoint.open("tuned")
    assert set(by_name(found)) == set(one.tensors)
    flat = [np.concatenate([c.read(n).ravel().astype(np.float64) for n in one.tensors]) for c in (one, two)]
    cases = [(by_name(found)[n], one.read(n).astype(np.float64), two.read(n).astype(np.float64)) for n in one.tensors]
    for figures, a, b in [*cases, (found["total"], *flat)]:
        norm = np.linalg.norm
        assert figures["elements"] == a.size
        assert figures["cosine"] == pytest.approx((a * b).sum() / norm(a) / norm(b), abs=1e-12)
        assert figures["relative"] == pytest.approx(norm(b - a) / norm(a), rel=1e-12)
        assert figures["largest"] == np.abs(b - a).max()
        assert figures["equal"] == (a == b).mean()


def test_a_model_is_equal_to_itself_and_a_lora_changes_what_it_says(world: Path) -> None:
    same = diff("base", "base")["total"]
    assert (same["cosine"], same["relative"], same["largest"], same["equal"]) == (1.0, 0.0, 0.0, 1.0)
    write_lora(Path("lora"), product(Q.removesuffix(".weight"), (16, 16)), base_model_name_or_path="base")
    tensors = by_name(diff("base", "base+lora"))
    assert [name for name, tensor in tensors.items() if tensor["equal"] < 1] == [Q]


def test_what_only_one_has_and_what_does_not_fit(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = Path("tuned/model.safetensors")
    tensors = load_file(file)
    del tensors["model.norm.weight"]
    tensors["model.layers.0.mlp.up_proj.weight"] = np.zeros((4, 16), np.float32)
    tensors[Q] = tensors[Q].astype(ml_dtypes.bfloat16)
    save_file(tensors | {"extra": np.arange(3)}, file)
    assert main(["diff", "base", "tuned", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["only_in_a"], found["only_in_b"]) == (["model.norm.weight"], ["extra"])
    assert found["shapes"] == [{"name": "model.layers.0.mlp.up_proj.weight", "shapes": [[24, 16], [4, 16]]}]
    assert by_name(found)[Q]["dtypes"] == ["float32", "bfloat16"]
    assert main(["diff", "base", "tuned"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("[24, 16] and [4, 16]", "norm.weight is only in base", "extra is only in tuned", "float32 / bfloat16"):
        assert part in shown


def test_a_narrow_terminal_folds_names_and_no_figures(world: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    embedding = "model.embed_tokens.weight"
    for name in ("base", "tuned"):
        file = Path(name, "model.safetensors")
        save_file(load_file(file) | {embedding: np.full((100000, 1, 2), len(name), np.float32)}, file)
    monkeypatch.setattr("jaxmerge.cli.diff.UNFOLDED", 80)
    assert main(["diff", "base", "tuned"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert next(line for line in lines if "100000x1x2" in line).split()[-4:] == ["1.000000", "0.25", "1", "0%"]
    monkeypatch.undo()
    monkeypatch.chdir(world)
    assert main(["diff", "base", "tuned"]) == 0
    assert f" {Q} " in capsys.readouterr().out


def test_the_picture_stands_alone(world: Path) -> None:
    assert main(["diff", "base", "tuned", "--plot", "d.svg"]) == 0
    root = ElementTree.parse("d.svg").getroot()
    notes = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    for tensor in diff("base", "tuned")["tensors"]:
        assert any(note.endswith(f": {tensor['relative']:.4g}") for note in notes), tensor["name"]
    assert sorted(path.name for path in Path().iterdir()) == ["base", "d.svg", "tuned"]


def test_zeros_and_no_elements_have_no_ratios() -> None:
    zeros = np.zeros(3)
    figures = Difference.of(zeros, np.ones(3)).figures()
    assert (figures["cosine"], figures["relative"], figures["equal"]) == (None, None, 0.0)
    assert Difference().figures()["equal"] is None


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere"], 2, "nowhere: no such folder"),
        (["tuned", "--plot", "d.png"], 2, "--plot d.png: only SVG is drawn"),
        (["tuned", "--plot", "no/d.svg"], 2, "--plot no/d.svg: cannot be written"),
    ],
)
def test_wrong_input_is_one_line(
    world: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    assert main(["diff", "base", *words]) == code
    printed = capsys.readouterr().err
    assert message in printed and printed.count("\n") == 1


def test_nan_is_named(world: Path) -> None:
    file = Path("tuned/model.safetensors")
    save_file(load_file(file) | {Q: np.full((16, 16), np.nan, np.float32)}, file)
    with pytest.raises(CheckpointError, match=f"tuned/model.safetensors: tensor '{Q}': has NaN"):
        diff("base", "tuned")
