"""`jaxmerge evolve` and `jaxmerge export` over real folders of tiny models."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_world import write_world

from jaxmerge.cli.main import main

SMALL = {"population": 4, "generations": 2, "seed": 1, "algorithm": "random_search", "baselines": ["uniform"]}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), search=SMALL)


@pytest.fixture(scope="module")
def done(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["evolve", str(config), str(out)]) == 0
    return out


def test_a_run_leaves_model_report_and_summary(done: Path) -> None:
    assert "base_model:" in (done / "model" / "README.md").read_text()
    assert "<html" in (done / "report.html").read_text()
    summary = json.loads((done / "summary.json").read_text())
    assert set(summary["baselines"]) == {"a", "b", "base", "uniform"}
    assert summary["test_interval"][0] <= summary["test_score"] <= summary["test_interval"][1]


def test_the_same_command_again_is_done_at_once(config: Path, done: Path) -> None:
    before = (done / "summary.json").read_bytes()
    assert main(["evolve", str(config), str(done)]) == 0
    assert (done / "summary.json").read_bytes() == before


def test_export_gives_the_best_again_and_any_other(done: Path, tmp_path: Path) -> None:
    assert main(["export", str(done), str(tmp_path / "best")]) == 0
    best = (done / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "best" / "model.safetensors").read_bytes() == best
    others = [f"{g}:{i}" for g in range(2) for i in range(4)]
    place = json.loads((done / "summary.json").read_text())["best"]
    others.remove(f"{place['generation']}:{place['index']}")
    assert main(["export", str(done), str(tmp_path / "other"), "--candidate", others[0]]) == 0
    assert (tmp_path / "other" / "model.safetensors").read_bytes() != best


def test_a_run_of_more_devices_is_exported_here_too(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "run")
    text = (done / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(text.replace("mesh: {pop: 1,", "mesh: {pop: 64,"))
    assert "pop: 64" in (tmp_path / "run" / "config.yaml").read_text()
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "best")]) == 0
    best = (done / "model" / "model.safetensors").read_bytes()
    assert (tmp_path / "best" / "model.safetensors").read_bytes() == best


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "{done}", "{new}", "--candidate", "2"], "write generation:index"),
        (["export", "{done}", "{new}", "--candidate", "7:0"], "has generations 0 to 1, not 7"),
        (["export", "{new}", "{new}"], "is not a run's folder"),
        (["export", "{done}", "{done}"], "exists"),
        (["evolve", "{config}", "{done}", "--set", "search.seed=2"], "search.seed: 1, now it is 2"),
        (["evolve", "{config}", "{new}", "--set", "serach.seed=2"], "unknown key 'serach'; did you mean 'search'?"),
        (["evolve", "{config}", "{new}", "--set", "search.algorithm=CMAES"], "did you mean 'CMA_ES'?"),
        (["evolve", "{config}", "{new}", "--set", "models.a=nowhere"], "nowhere"),
        (["evolve", "{new}", "{new}"], "there is no such file"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(
    arguments: list[str], message: str, config: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format(config=config, done=done, new=tmp_path / "new") for argument in arguments]
    assert main(filled) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error
    assert not (tmp_path / "new").exists()


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evolve", str(config), str(tmp_path / "new"), "--dry-run", "--set", "search.generations=3"]) == 0
    printed = capsys.readouterr().out
    assert "10 dimensions" in printed and "3 generations, 12 candidates" in printed and "MiB" in printed
    assert "1 x cpu, base + 2 x" in printed and "bank device, pop 1 x model 1" in printed
    assert main(["evolve", str(config), str(tmp_path / "new"), "--dry-run", "--devices", "v5e-16"]) == 0
    assert "v5e-16, base + 2 x 0.00646M float32: bank device, pop 16 x model 1" in capsys.readouterr().out
    assert main(["evolve", str(config), str(tmp_path / "new"), "--devices", "v5e-16"]) == 2
    assert not (tmp_path / "new").exists()


def test_terminated_it_ends_with_75_and_resumes(config: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "jaxmerge", "evolve", str(config), str(out)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (out / "config.yaml").exists():
        time.sleep(0.01)
    process.terminate()
    _, error = process.communicate(timeout=60)
    assert process.returncode == 75, error
    # The folder is named unless the signal comes while the process starts or ends.
    last = error.strip().splitlines()[-1]
    assert last.startswith("jaxmerge: ") and last.endswith("interrupted; the same command goes on")
    assert main(["evolve", str(config), str(out)]) == 0
    for name in ("best.yaml", "model/model.safetensors"):
        assert (out / name).read_bytes() == (done / name).read_bytes()
