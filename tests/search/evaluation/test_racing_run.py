"""Races over real models: one program for all blocks, resumed to the same history, refused where it cannot be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import write_world

from jaxmerge.errors import InputError
from jaxmerge.objectives.interface import Block
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evaluation.racing_score import RacingScore
from jaxmerge.search.evolve import evolve
from jaxmerge.search.history import History
from jaxmerge.search.resolved import read_config

RACE = {"kind": "racing", "block": 2, "first": 4, "confidence": 0.9}
SEARCH = {"population": 6, "generations": 3, "seed": 1, "baselines": [], "evaluation": RACE}


class Stopped(KeyboardInterrupt):
    pass


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = write_world(tmp_path_factory.mktemp("world"), search=SEARCH)
    lines = (config.parent / "search.jsonl").read_text()
    (config.parent / "search.jsonl").write_text(lines + (config.parent / "test.jsonl").read_text())
    return config


@pytest.fixture(scope="module")
def run(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "whole"
    evolve(world, out)
    return out


def records(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "history.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def test_the_history_says_what_was_seen_and_scores_are_its_means(run: Path) -> None:
    found = records(run)
    assert len(found) == 18
    assert any("left" in record for record in found)
    for record in found:
        values = [value for value in record["seen"]["copy"] if value is not None]
        assert record["score"] == pytest.approx(np.mean(values), rel=1e-6)
        assert len(values) == 16 if "left" not in record else 4 <= len(values) < 16


def test_a_run_stopped_within_a_race_ends_as_one_that_was_not(world: Path, run: Path, tmp_path: Path) -> None:
    class Stops(ParameterEngine):
        blocks = 0

        def evaluate(
            self,
            genomes: Any,
            split: str = "search",
            draw: Any = None,
            block: Block | None = None,
            exact: bool = False,
        ) -> Any:
            Stops.blocks += block is not None
            if Stops.blocks == 9:
                raise Stopped
            return super().evaluate(genomes, split, draw, block, exact)

    with pytest.raises(Exception, match="interrupted"):
        evolve(world, tmp_path / "run", build=Stops)
    assert 0 < len(records(tmp_path / "run")) < 18
    evolve(world, tmp_path / "run")
    assert records(tmp_path / "run") == records(run)
    first, second = (json.loads((folder / "summary.json").read_text()) for folder in (run, tmp_path / "run"))
    assert first["evaluation"] == second["evaluation"]
    assert (tmp_path / "run" / "best.yaml").read_bytes() == (run / "best.yaml").read_bytes()


def test_the_summary_says_what_was_saved(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    evaluation = summary["evaluation"]
    assert evaluation["kind"] == "racing"
    assert 4 / 14 <= evaluation["examples_share"] < 1 and 0 < evaluation["tokens_share"] < 1
    assert evaluation["tokens_saved"] < 1 - evaluation["tokens_share"]
    assert evaluation["checked"] == 18 and 0.3 < evaluation["rank_correlation"] <= 1


def test_all_blocks_run_in_one_program_and_hold_every_example_once(world: Path) -> None:
    engine = ParameterEngine(read_config(world))
    engine.load()
    genomes = np.random.default_rng(0).random((3, engine.dimension), np.float32)
    [whole, *_] = engine.evaluate(genomes)
    results = [engine.evaluate(genomes[: 3 - number // 3], block=Block(number, 8, 5)) for number in range(2)]
    compiles = engine.compiles
    results += [engine.evaluate(genomes[: 3 - number // 3], block=Block(number, 8, 5)) for number in range(2, 8)]
    assert engine.compiles == compiles
    rows = np.stack([result[0].examples["copy"] for result in results])
    assert (np.isfinite(rows).sum(axis=0) == 1).all() and (np.isfinite(rows).sum(axis=1) == 2).all()
    assert whole.examples is not None
    np.testing.assert_allclose(np.nansum(rows, axis=0), whole.examples["copy"], atol=1e-5)


@pytest.mark.parametrize(
    ("evaluation", "message"),
    [
        ({"kind": "race"}, "search.evaluation.kind"),
        ({"kind": "full", "confidence": 0.9}, "search.evaluation.confidence: means nothing to kind 'full'"),
        ({"kind": "racing", "confidence": 1.0}, "search.evaluation.confidence"),
        ({"kind": "racing", "confidance": 0.9}, "did you mean 'confidence'"),
        ({"kind": "racing", "block": 0}, "search.evaluation.block"),
        ({"kind": "racing"}, "search.evaluation.first: 32 examples leave nothing to save of 8"),
        ("racing", "search.evaluation: write {kind: racing}"),
    ],
)
def test_a_wrong_evaluation_is_refused(tmp_path: Path, evaluation: Any, message: str) -> None:
    config = write_world(tmp_path, search={"evaluation": evaluation})
    with pytest.raises(InputError) as refused:
        plan(config)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_a_kind_that_knows_no_blocks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kinds_without_blocks.py").write_text(
        "from jaxmerge.objectives.likelihood import Likelihood\n\n"
        "class Old(Likelihood):\n"
        "    def score(self, runner, split, draw=None):\n"
        "        return super().score(runner, split, draw)\n"
    )
    old = {"name": "copy", "kind": "kinds_without_blocks:Old", "text": "{question}", "data": {"search": "search.jsonl"}}
    config = write_world(tmp_path, search={"evaluation": RACE}, objectives=[old])
    with pytest.raises(InputError, match="'copy' cannot be scored on a few examples at a time"):
        plan(config)


def test_an_objective_twice_is_raced_as_once(world: Path, tmp_path: Path) -> None:
    """Twice the same evidence is no more evidence."""
    one = {"kind": "likelihood", "text": "{question}", "data": {"search": str(world.parent / "search.jsonl")}}
    left = []
    for count in (1, 2):
        objectives = [one | {"name": f"number {i}"} for i in range(count)]
        config = read_config(write_world(tmp_path / str(count), objectives=objectives, search=SEARCH))
        engine = ParameterEngine(config)
        engine.load()
        score = RacingScore(engine, config, History.read(tmp_path / "none.jsonl", 24), "parameter")
        genomes = np.random.default_rng(0).random((24, engine.dimension), np.float32)
        left.append([result.left for result in score(genomes, 0)])
    assert left[0] == left[1] and len(set(left[0])) > 2


def test_objectives_of_different_sizes_are_raced_together_and_within_a_sample(world: Path, tmp_path: Path) -> None:
    data = {"search": str(world.parent / "search.jsonl")}
    text = {"kind": "likelihood", "text": "{question}", "data": data}
    objectives = [text | {"name": "drawn", "sample": 10}, text | {"name": "few", "limit": 5}]
    config = write_world(
        tmp_path / "world", objectives=objectives, search=SEARCH | {"evaluation": RACE | {"first": 2}, "generations": 2}
    )
    evolve(config, tmp_path / "run")
    found = records(tmp_path / "run")
    drawn = set()
    for record in found:
        counts = {name: sum(value is not None for value in values) for name, values in record["seen"].items()}
        blocks = record.get("left", 5)
        assert counts == {"drawn": 2 * blocks, "few": blocks}
        means = {name: np.mean([v for v in values if v is not None]) for name, values in record["seen"].items()}
        assert record["score"] == pytest.approx(np.mean(list(means.values())), rel=1e-6)
        drawn |= {i for i, value in enumerate(record["seen"]["drawn"]) if value is not None}
    assert any("left" in record for record in found) and len(drawn) > 10
