"""`jaxmerge merge` from outside."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxmerge.cli.main import main
from jaxmerge.documents import write_yaml
from jaxmerge.errors import InputError
from jaxmerge.merging.merge import merge

GOLDEN = Path(__file__).parents[1] / "golden"
RECIPE = str(GOLDEN / "ties" / "config.yaml")


@pytest.fixture(autouse=True)
def _paths_are_relative_to_the_golden_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)


def test_the_command_writes_what_the_function_writes(tmp_path: Path) -> None:
    merge(RECIPE, tmp_path / "function")
    command = [sys.executable, "-P", "-m", "jaxmerge", "merge", RECIPE, str(tmp_path / "command")]
    subprocess.run(command, check=True, env=os.environ | {"JAX_PLATFORMS": "cpu"})
    names = {p.name for p in (tmp_path / "command").iterdir()}
    assert names == {"config.json", "generation_config.json", "model.safetensors", "README.md", "mergekit_config.yml"}
    for name in names:
        assert (tmp_path / "command" / name).read_bytes() == (tmp_path / "function" / name).read_bytes()


def test_a_dry_run_prints_plan_memory_and_size_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["merge", RECIPE, str(tmp_path / "out"), "--dry-run"]) == 0
    short = capsys.readouterr().out
    row = r"^model\.layers\.\{0\.\.5\}\.mlp\.\*  +18  +ties  +\d, \d(, \d)?  +\d  +weight="
    assert re.search(row, short, re.MULTILINE)
    assert max(map(len, short.splitlines())) < 200
    assert main(["merge", RECIPE, str(tmp_path / "out"), "--dry-run", "--verbose"]) == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) > 2 * len(short.splitlines())
    for part in ("ties", "inputs/ft3", "model.layers.5.mlp.up_proj.weight [32, 16] float32", "memory", "62.3 kB"):
        assert part in printed
    assert list(tmp_path.iterdir()) == []


def test_tensors_are_explained_by_glob_or_expression(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "out")
    assert main(["merge", RECIPE, out, "--explain", r"layers\.5\.mlp\.(up|down)"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ") and line] == [
        "model.layers.5.mlp.down_proj.weight [16, 32] float32",
        "model.layers.5.mlp.up_proj.weight [32, 16] float32",
    ]
    up = lines[lines.index("model.layers.5.mlp.up_proj.weight [32, 16] float32") :]
    assert up[1].startswith("  operator  ties: ") and "normalize=1" in up[1] and "weight" not in up[1]
    assert up[2] == "  base      inputs/base model.layers.5.mlp.up_proj.weight [32, 16] float32"
    assert re.fullmatch(r"  source    inputs/ft\d model\S+ \[32, 16\] float32: weight=\S+, density=\S+", up[3])
    assert main(["merge", RECIPE, out, "--explain", "*.norm.weight"]) == 0
    assert capsys.readouterr().out.startswith("model.norm.weight [16] float32\n")
    assert main(["merge", RECIPE, out, "--explain", "self_atn"]) == 2
    assert "--explain 'self_atn': matches no tensor" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_slices_are_listed_with_the_layers_they_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = GOLDEN / "inputs" / "ft1"
    one, two = ({"sources": [{"model": str(model), "layer_range": span}]} for span in ([0, 4], [2, 6]))
    (tmp_path / "r.yaml").write_text(write_yaml({"merge_method": "passthrough", "slices": [one, two]}))
    assert main(["merge", str(tmp_path / "r.yaml"), str(tmp_path / "out"), "--dry-run"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model.layers.{0..3}.self_attn.*", "16", "copy", "0"] in rows
    assert ["model.layers.{4..7}.input_layernorm.weight", "4", "copy", "0", "(layer", "-2)"] in rows


def test_a_missing_argument_points_to_its_commands_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["merge", RECIPE]) == 2
    assert capsys.readouterr().err == "jaxmerge: Missing argument 'OUT'. (see jaxmerge merge --help)\n"


def test_wrong_input_is_exit_code_2_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.yaml").write_text("merge_method: ties\ndtpe: float32\n")
    assert main(["merge", str(tmp_path / "r.yaml"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"r.yaml"}


def test_force_replaces_no_model_of_the_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copied = tmp_path / "models" / "ft1"
    shutil.copytree(GOLDEN / "inputs" / "ft1", copied)
    (tmp_path / "r.yaml").write_text(f"merge_method: passthrough\nmodels: [{{model: {copied}}}]\n")
    for out in (copied, copied.parent):
        for words in ([], ["--dry-run"]):
            assert main(["merge", str(tmp_path / "r.yaml"), str(out), "--force", *words]) == 2
            assert f"{out}: " in capsys.readouterr().err
    with pytest.raises(InputError, match="contains"):
        merge(tmp_path / "r.yaml", copied.parent, force=True)
    assert (copied / "model.safetensors").read_bytes() == (GOLDEN / "inputs/ft1/model.safetensors").read_bytes()


def test_models_that_do_not_fit_are_exit_code_3(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "merge_method: linear\nparameters: {weight: 1}\nmodels: [{model: inputs/ft1}, {model: inputs_edge/ft1}]"
    )
    assert main(["merge", str(tmp_path / "r.yaml"), str(tmp_path / "out")]) == 3


def test_an_interrupt_is_exit_code_75(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jaxmerge.merging.tensor.merge_tile", interrupt)
    assert main(["merge", RECIPE, str(tmp_path / "out")]) == 75
    assert list(tmp_path.iterdir()) == []
