"""`runtime.compression`: a search over compressed task vectors, whose results are those of exact merges."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import write_world

import jaxmerge
from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.population.compressed import CompressedBank
from jaxmerge.population.merged import Merging
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evolve import evolve
from jaxmerge.search.resolved import read_config

TIES = ["space.operator=ties", "space.parameters={weight: [0.1, 1.2], density: [0.3, 1.0]}"]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"), runtime={"compression": "int8"})


@pytest.mark.parametrize("changes", [[], TIES, ["runtime.compression=bit"]])
def test_a_search_sees_scores_near_those_that_are_told(world: Path, changes: list[str]) -> None:
    engine = ParameterEngine(read_config(world, changes))
    engine.load()
    assert engine.approximates and engine._approximate is not None
    merging = engine._approximate.population
    assert isinstance(merging, Merging) and isinstance(merging.bank, CompressedBank)
    assert engine._needs.bank == merging.bank.nbytes
    genomes = np.random.default_rng(2).random((4, engine.dimension), dtype=np.float32)
    near, exact = engine.evaluate(genomes), engine.evaluate(genomes, exact=True)
    seen, told = ([result.score for result in results] for results in (near, exact))
    assert len(set(told)) == 4 and all(a != b for a, b in zip(seen, told, strict=True))
    if "runtime.compression=bit" not in changes:
        assert seen == pytest.approx(told, rel=2e-3)
    measured = engine.measure(genomes[0], "search").result
    assert (measured.score, measured.scores) == (exact[0].score, exact[0].scores)


def records(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "history.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_a_run_that_goes_on_is_that_of_one_go_and_tells_exact_scores(world: Path, tmp_path: Path) -> None:
    changes = ["search.baselines=[uniform]", "search.population=4"]
    first = evolve(world, tmp_path / "first", overrides=[*changes, "search.generations=2"])
    evolve(world, tmp_path / "second", overrides=[*changes, "search.generations=1"])
    other = [*changes, "search.generations=2", "runtime.compression=null"]
    with pytest.raises(InputError, match=r"was made with runtime.compression: 'int8', now it is not given; restore it"):
        evolve(world, tmp_path / "second", overrides=other)
    second = evolve(world, tmp_path / "second", overrides=[*changes, "search.generations=2"])
    assert second.config.runtime.compression == "int8"
    histories = [records(tmp_path / name) for name in ("first", "second")]
    assert histories[0] == histories[1] and len(histories[0]) == 8
    for name in ("model/model.safetensors", "best.yaml"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    objectives = Document.read(tmp_path / "first" / "config.yaml").data["objectives"]
    for split, key in (("search", "best_score"), ("validation", "validation_score"), ("test", "test_score")):
        exported = jaxmerge.evaluate(tmp_path / "first" / "model", objectives, split=split)
        assert first.summary[key] == pytest.approx(exported.score, rel=1e-6)


def test_a_dry_run_counts_the_compressed_bytes(world: Path) -> None:
    lines = plan(world)
    assert "base + 2 x 0.00646M float32 as int8: bank device" in lines["memory"]
    assert lines["forward"] == "merged: of task vectors as int8 (runtime.compression), and exactly from the files"
    whole = plan(world, ["runtime.compression=null"])
    assert whole["bank"] == "0.1 MiB on each of 1 devices" and lines["bank"] == "0.0 MiB on each of 1 devices"
    # 3 x 4 bytes of an element, against 4 + 2 and the scales.
    part = {name: float(each["memory"].split("(bank ")[1].split(",")[0]) for name, each in (("a", lines), ("b", whole))}
    assert 0.5 < part["a"] / part["b"] < 0.6


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["space.operator=linear", "space.parameters={weight: [0.1, 1]}"], "int8: linear merges no task vectors"),
        (["space.operator=della"], "int8: della keeps something for each element of its sources"),
        ([*TIES, "runtime.compression=bit"], "bit: ties looks at single elements, .*; write int8"),
        (["runtime.forward=batched"], "int8: runtime.forward is batched, and this is for merged"),
        (["runtime.bank=host"], "int8: runtime.bank is host, and this needs device"),
        (["runtime.mesh={pop: 1, model: 2}"], "int8: runtime.mesh divides each candidate over 2 devices"),
    ],
)
def test_what_cannot_be_compressed_is_refused_before_a_weight_is_read(
    changes: list[str], why: str, world: Path
) -> None:
    with pytest.raises(InputError, match=f"^runtime.compression: {why}"):
        plan(world, changes)


def test_paths_are_refused(tmp_path: Path) -> None:
    paths = write_world(tmp_path, space={"kind": "dataflow", "repeats": 1}, runtime={"compression": "bit"})
    with pytest.raises(InputError, match=r"^runtime.compression: bit: needs space.kind parameter, not dataflow"):
        plan(paths)
