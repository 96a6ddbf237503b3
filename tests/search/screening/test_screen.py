"""Screening in a search: the Jacobian, what is scored and recorded, and going on after an interruption."""

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from tiny_world import write_world

from jaxmerge.errors import InputError, Interrupted
from jaxmerge.search.algorithms.registry import algorithm
from jaxmerge.search.config import Screening
from jaxmerge.search.dry_run import plan
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evolve import evolve
from jaxmerge.search.history import History
from jaxmerge.search.linearised import Linearised
from jaxmerge.search.loop import Limit, Stage, search
from jaxmerge.search.progress import Progress
from jaxmerge.search.resolved import read_config
from jaxmerge.search.result import Result
from jaxmerge.search.screening.screen import Screen

SPACE = {"operator": "task_arithmetic", "granularity": "model", "parameters": {"weight": [-0.3, 1.8]}}
SEARCH = {"screening": {"candidates": 40, "refresh": 2}, "generations": 4, "baselines": ["uniform", "random_search"]}
RACED = {"kind": "racing", "first": 4, "block": 2}


def test_the_jacobian_is_that_of_every_example_and_its_mean_the_gradient(tmp_path: Path) -> None:
    engine = ParameterEngine(read_config(write_world(tmp_path, space=SPACE)))
    engine.load()
    genome = np.full(2, 0.45, np.float32)
    near = engine.linearised(genome)
    [scored], [gradient] = engine.evaluate(genome[None]), engine.gradients(genome[None])
    assert near.scores == {"copy": True} and near.slopes["copy"].shape == (8, 2)
    np.testing.assert_allclose(near.values["copy"], scored.examples["copy"], atol=1e-5)
    np.testing.assert_allclose(near.slopes["copy"].mean(axis=0), gradient.gradient, rtol=1e-4, atol=1e-6)
    step = np.array([5e-3, 0], np.float32)
    high, low = engine.evaluate(np.stack([genome + step, genome - step]))
    slopes = (high.examples["copy"] - low.examples["copy"]) / (2 * step[0])
    np.testing.assert_allclose(near.slopes["copy"][:, 0], slopes, rtol=0.03, atol=2e-3)


def test_a_screened_search_records_what_it_drew_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    config = write_world(tmp_path, space=SPACE, search=SEARCH)
    whole = evolve(config, tmp_path / "whole")
    for generation in whole.history.stage("parameter"):
        places = [result.drawn for result in generation.results]
        # The last of all is the mean, where the Jacobian is taken.
        own = [place for place in places if place != 40]
        assert len({*own}) == len(own) == (3 if generation.number % 2 == 0 else 4) and all(0 <= p < 40 for p in own)
        predicted = [result.predicted for result in generation.results if result.drawn != 40]
        assert predicted == sorted(predicted, reverse=True)
        if generation.number % 2 == 0:
            mean = generation.results[0]
            assert mean.drawn == 40 and mean.predicted == pytest.approx(mean.score, abs=1e-5)
    # Two Jacobians for four generations of four; the control gets as much.
    assert whole.history.forwards("parameter") == 16 + 2 * 3
    assert whole.history.candidates("random_search") == 24
    assert "24 candidates" in plan(config)["baselines"]
    assert whole.summary["screening"]["forwards"] == 22 and len(whole.summary["screening"]["sensitivity"]) == 2

    def interrupt(event: Progress) -> None:
        # Between two generations that share a Jacobian.
        if event.stage == "parameter" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        evolve(config, tmp_path / "cut", progress=interrupt)
    evolve(config, tmp_path / "cut")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


class Thresholds:
    """Right and wrong answers of which all likelihoods are linear: the surrogate knows all but the thresholds."""

    sampled, gradient_scores = False, False
    weights: ClassVar[dict[str, float]] = {"it": 1.0}
    at = np.random.default_rng(1).uniform(-3, -0.5, 60)
    slopes = np.random.default_rng(2).normal(0.4, 1, (60, 6))
    calls = 0

    def linearised(self, genome: np.ndarray, draw: int | None) -> Linearised:
        self.calls += 1
        return Linearised(genome, {"it": self._values(genome)}, {"it": self.slopes}, {"it": False}, 8.0)

    def evaluate(self, genomes: np.ndarray, draw: int | None = None) -> list[Result]:
        return [self._result(self._values(genome)) for genome in genomes]

    def _result(self, values: np.ndarray) -> Result:
        right = (values > -1).astype(np.float32)
        share = float(right.mean())
        return Result(share, float(values.mean()), {"it": share}, 0.0, examples={"it": right})

    def _values(self, genome: np.ndarray) -> np.ndarray:
        return self.at + self.slopes @ (genome.astype(np.float64) - 0.5)


def test_screening_finds_more_for_the_same_cost(tmp_path: Path) -> None:
    engine, made = Thresholds(), algorithm("CMA_ES", 6, population=8)
    best = {}
    for wanted in (None, Screening(candidates=64)):
        limit = Limit(candidates=96) if wanted is None else Limit(candidates=96, extra=3)
        assert limit.total(8) == (12 if wanted is None else 8)
        stage = Stage("parameter", made, np.full(6, 0.5, np.float32), 3, limit)
        history = History.read(tmp_path / f"{wanted is None}.jsonl", 8)
        screen = wanted and Screen(made, engine, wanted, history, "parameter")  # type: ignore[arg-type]
        found = search(stage, lambda genomes, _: engine.evaluate(genomes), history, screen=screen)
        assert history.forwards("parameter") == (96 if wanted is None else 8 * 11)
        best[wanted is None] = [generation.results for generation in found]
    # What a Jacobian took is told by the engine, which is one for all processes.
    assert {result.seconds for result in best[False][0]} == {1.0}
    last = {plain: np.mean([r.score for r in results[-1]]) for plain, results in best.items()}
    assert last[False] > last[True]
    assert engine.calls == 8


def test_a_center_that_fails_leaves_the_draws_in_their_order(tmp_path: Path) -> None:
    class Broken(Thresholds):
        def evaluate(self, genomes: np.ndarray, draw: int | None = None) -> list[Result]:
            failed = Result(None, 0.0, {"it": None}, 0.0, "broken")
            scored = zip(genomes, super().evaluate(genomes), strict=True)
            return [failed if np.all(genome == 0.5) else found for genome, found in scored]

    made, history = algorithm("CMA_ES", 6, population=8), History.read(tmp_path / "history.jsonl", 8)
    stage = Stage("parameter", made, np.full(6, 0.5, np.float32), 3, Limit(generations=2))
    screen = Screen(made, Broken(), Screening(candidates=64), history, "parameter")  # type: ignore[arg-type]
    first, second = search(stage, lambda genomes, _: screen.engine.evaluate(genomes), history, screen=screen)
    assert [result.drawn for result in first.results] == [64, *range(7)]
    assert first.results[0].error == "broken" and first.results[1].predicted is None
    assert second.results[1].predicted is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"screening": "jacobean"}}, "search.screening"),
        ({"search": {"screening": {"candidate": 9}}}, "did you mean 'candidates'"),
        ({"search": {"screening": {"candidates": 3}}}, "3 are fewer than the population of 4"),
        ({"search": {"screening": "jacobian", "algorithm": "MA_ES"}}, "MA_ES is told of its own draws"),
        ({"search": {"screening": "jacobian", "algorithm": "SimpleGA"}}, "SimpleGA is told of its own draws"),
        ({"search": {"screening": "jacobian", "algorithm": "adam", "population": "auto"}}, "adam is told of its own"),
        ({"search": {"screening": "jacobian", "evaluation": RACED}}, "screening needs all scores"),
        ({"search": {"screening": "jacobian"}, "space": {"kind": "dataflow"}}, "paths of kind dataflow"),
        ({"search": {"screening": "jacobian"}, "runtime": {"bank": "host"}}, "a gradient needs all layers"),
    ],
)
def test_what_cannot_be_screened_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        evolve(write_world(tmp_path, **changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def lines(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]
