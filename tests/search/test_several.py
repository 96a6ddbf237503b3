"""Searches for several objectives: NSGA-II, the front of a run, and the point that wins."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from fake_engine import write_config
from two_objectives import TwoObjectives, front_of, write_two

from jaxmerge.errors import InputError
from jaxmerge.objectives.intervals import interval
from jaxmerge.search.algorithms.pareto import hypervolume, nondominated
from jaxmerge.search.algorithms.registry import algorithm
from jaxmerge.search.dry_run import plan
from jaxmerge.search.evolve import evolve
from jaxmerge.search.resolved import read_config
from jaxmerge.search.run import Run

SCRIPT = Path(__file__).parents[1] / "support" / "two_objectives.py"


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_two(tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    evolve(config, out, build=TwoObjectives)
    return out


def lines(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


@pytest.mark.parametrize("seed", [0, 1])
def test_nsga2_beats_random_search_on_zdt1(seed: int) -> None:
    volumes = {
        name: hypervolume(-front_of(algorithm(name, 8, population=12, objectives=2), 50, seed), np.array([-1.5, -6.0]))
        for name in ("nsga2", "random_search")
    }
    assert volumes["nsga2"] > volumes["random_search"] + 0.5


def test_an_algorithm_is_a_function_of_its_keys() -> None:
    first, second = (front_of(algorithm("nsga2", 5, population=6, objectives=2), 6, 3, 5) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.tobytes() != front_of(algorithm("nsga2", 5, population=6, objectives=2), 6, 4, 5).tobytes()


def test_identical_candidates_do_not_shrink_a_generation() -> None:
    made = algorithm("nsga2", 1, population=6, objectives=2, options={"crossover_prob": 0.0, "mutation_prob": 1.0})
    state = {"genomes": np.full((6, 1), 0.5, np.float32), "losses": np.zeros((6, 2))}
    genomes, _ = made.ask(jax.random.key(0), 1, state)
    assert genomes.shape == (6, 1)


def test_the_front_is_that_of_the_history(whole: Path) -> None:
    summary = Run(whole, TwoObjectives).summary
    own = [r for r in lines(whole) if r["stage"] == "parameter" and r["score"] is not None]
    points = np.array([[r["scores"]["near"], r["scores"]["far"]] for r in own])
    expected = {tuple(point) for point in points[nondominated(points)]}
    front = [(row["search"]["near"], row["search"]["far"]) for row in summary["front"]]
    assert 2 <= len(front) <= 16 and set(front) <= expected and len(set(front)) == len(front)
    assert len(front) == min(16, len(expected))
    for row in summary["front"]:
        assert set(row) == {"candidate", "search", "validation", "test"}
        assert all(set(row[split]) == {"near", "far"} for split in ("search", "validation", "test"))
        stage, generation, index = row["candidate"].split(":")
        recorded = next(r for r in own if (r["generation"], r["index"]) == (int(generation), int(index)))
        assert stage == "parameter" and recorded["scores"] == row["search"]
    assert 0 < summary["hypervolume"]["search"] <= 1 and 0 < summary["hypervolume"]["random_search"] <= 1
    assert summary["baselines"]["random_search"]["candidates"] == summary["candidates"] == 60


def test_the_winner_is_the_best_weighted_mean_of_the_front_on_validation(whole: Path) -> None:
    summary = Run(whole, TwoObjectives).summary
    best = max(0.75 * row["validation"]["near"] + 0.25 * row["validation"]["far"] for row in summary["front"])
    assert summary["pick"] == "weights" and summary["validation_score"] == pytest.approx(best)


def test_intervals_pair_objectives_over_one_file(config: Path, whole: Path) -> None:
    """What the two objectives say of a test example is added up before examples are drawn."""
    run = Run(whole, TwoObjectives)
    merge = next(merge for merge in TwoObjectives(read_config(config)).baselines if merge.name == "uniform")
    examples = TwoObjectives(read_config(config)).measure(merge, "test").examples
    added = 0.75 * examples["near"].astype(np.float64) + 0.25 * examples["far"]
    assert run.summary["baselines"]["uniform"]["test_interval"] == pytest.approx(interval(added, False))


def test_the_knee_is_picked_where_it_is_asked_for(config: Path, tmp_path: Path) -> None:
    evolve(config, tmp_path / "run", overrides=["search.pick=knee"], build=TwoObjectives)
    summary = Run(tmp_path / "run", TwoObjectives).summary
    place = summary["best"]
    name = f"{place['stage']}:{place['generation']}:{place['index']}"
    rows = {row["candidate"]: [row["validation"]["near"], row["validation"]["far"]] for row in summary["front"]}
    points = np.array(list(rows.values()))
    unit = (points - points[nondominated(points)].min(0)) / np.ptp(points[nondominated(points)], axis=0)
    assert summary["pick"] == "knee"
    assert sum(unit[list(rows).index(name)]) == pytest.approx(max(unit[nondominated(points)].sum(1)))


def test_every_point_of_the_front_can_be_exported(whole: Path, tmp_path: Path) -> None:
    run = Run(whole, TwoObjectives)
    for row in run.summary["front"][:3]:
        _, generation, index = row["candidate"].split(":")
        run.export(tmp_path / f"{generation}-{index}", (int(generation), int(index)))
    assert len(list(tmp_path.iterdir())) == 3
    with pytest.raises(InputError, match="has generations 0 to 5, not 6"):
        run.export(tmp_path / "none", (6, 0))


def test_a_killed_run_ends_with_the_same_history(config: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-P", str(SCRIPT), str(config), str(out)], env=environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (out / "history.jsonl").exists() and len((out / "history.jsonl").read_bytes().splitlines()) >= 20:
            process.send_signal(signal.SIGKILL)
        time.sleep(0.01)
    assert process.wait() == -signal.SIGKILL
    assert 20 <= len(lines(out)) < len(lines(whole))
    evolve(config, out, build=TwoObjectives)
    assert lines(out) == lines(whole)
    mine, other = (Run(path, TwoObjectives).summary for path in (out, whole))
    assert mine["front"] == other["front"] and mine["best"] == other["best"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.algorithm=CMA_ES", "search.pick=knee"], "search.pick: CMA_ES searches for one best candidate"),
        (["search.pick=elbow"], "search.pick"),
        (["objectives.0.direction=min"], "higher is better"),
    ],
)
def test_what_does_not_fit_is_refused(config: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evolve(config, tmp_path / "run", overrides=overrides, build=TwoObjectives)
    assert not (tmp_path / "run").exists()


def test_objectives_that_trade_nothing_are_refused(config: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nsga2 needs at least two"):
        plan(write_config(tmp_path), ["search.algorithm=nsga2"], TwoObjectives)
    same = config.with_name("same.yaml")
    same.write_text(config.read_text().replace("{text} again", "{text}"))
    with pytest.raises(InputError, match="'near' and 'far' measure the same"):
        plan(same, (), TwoObjectives)


def test_without_pymoo_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymoo", None)
    with pytest.raises(InputError, match=r"pip install 'jaxmerge\[pareto\]'"):
        algorithm("nsga2", 3, objectives=2)
