"""`jaxmerge evolve` and `export` with several objectives, over real folders of tiny models."""

import json
from pathlib import Path

import pytest
from safetensors.numpy import load_file
from tiny_world import write_world

from jaxmerge.cli.main import main

DATA = {split: f"{split}.jsonl" for split in ("search", "validation", "test")}
OBJECTIVES = [
    {"name": "copy", "kind": "likelihood", "prompt": "{question}", "answer": " {answer}", "data": DATA},
    {"name": "text", "kind": "likelihood", "text": "{question}", "data": DATA},
]
SEARCH = {"algorithm": "nsga2", "population": 4, "generations": 2, "baselines": ["uniform", "random_search"]}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    config = write_world(root, objectives=OBJECTIVES, search=SEARCH)
    assert main(["evolve", str(config), str(root / "run")]) == 0
    return root / "run"


def test_a_run_leaves_its_front(done: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    assert summary["pick"] == "weights" and set(summary["hypervolume"]) == {"search", "random_search"}
    best = summary["best"]
    named = [row["candidate"] for row in summary["front"]]
    assert f"{best['stage']}:{best['generation']}:{best['index']}" in named
    for row in summary["front"]:
        assert all(set(row[split]) == {"copy", "text"} for split in ("search", "validation", "test"))


def test_points_of_the_front_are_exported(done: Path, tmp_path: Path) -> None:
    summary = json.loads((done / "summary.json").read_text())
    for row in summary["front"]:
        place = row["candidate"].partition(":")[2]
        out = tmp_path / place.replace(":", "-")
        assert main(["export", str(done), str(out), "--candidate", place]) == 0
        same = all(
            tensor.tobytes() == load_file(done / "model" / "model.safetensors")[name].tobytes()
            for name, tensor in load_file(out / "model.safetensors").items()
        )
        best = summary["best"]
        assert same == (place == f"{best['generation']}:{best['index']}")


@pytest.mark.parametrize("place", ["2:0", "0:4", "x"])
def test_a_candidate_that_is_not_in_the_history_is_refused(done: Path, tmp_path: Path, place: str) -> None:
    assert main(["export", str(done), str(tmp_path / "none"), "--candidate", place]) == 2
    assert not (tmp_path / "none").exists()
