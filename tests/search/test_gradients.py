"""Gradients of the recipe: right, followed by optax's optimizers, and a start for other searches."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_world import OBJECTIVES, write_world

from jaxmerge.errors import InputError, Interrupted
from jaxmerge.search.algorithms.descent import build
from jaxmerge.search.engines.dataflow import DataflowEngine
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evolve import evolve
from jaxmerge.search.gradient_start import followed
from jaxmerge.search.progress import Progress
from jaxmerge.search.resolved import read_config
from jaxmerge.search.result import Result


def engine_of(path: Path) -> ParameterEngine:
    engine = ParameterEngine(read_config(path))
    engine.load()
    return engine


SURE = {"name": "sure", "kind": "entropy", "text": "{question}", "data": {"search": "search.jsonl"}}
TRIMMED = {"weight": [-0.3, 1.8], "density": [0.2, 1.0]}


@pytest.mark.parametrize(
    ("operator", "parameters", "changes"),
    [
        ("linear", {"weight": [-0.3, 1.8]}, {"objectives": [SURE]}),
        ("dare_linear", TRIMMED, {}),
    ],
)
def test_gradients_match_finite_differences(
    operator: str, parameters: dict[str, Any], changes: dict[str, Any], tmp_path: Path
) -> None:
    space = {"operator": operator, "granularity": "model", "parameters": parameters}
    engine = engine_of(write_world(tmp_path, space=space, **changes))
    genome = np.full(engine.dimension, 0.45, np.float32)
    [result] = engine.gradients(genome[None])
    assert result.gradient is not None and result.score is not None
    [scored] = engine.evaluate(genome[None])
    np.testing.assert_allclose(result.score, scored.score, atol=1e-5)
    step = 5e-3
    for gene in range(2):
        moved = np.stack([genome, genome])
        moved[0, gene] += step
        moved[1, gene] -= step
        high, low = engine.evaluate(moved)
        assert high.score is not None and low.score is not None
        slope = (high.score - low.score) / (2 * step)
        np.testing.assert_allclose(result.gradient[gene], slope, rtol=0.03, atol=2e-4)
    # Densities are looked up on a grid, and have a gradient all the same: see operators/test_secant.py.
    assert np.all(result.gradient != 0)


def test_the_gradient_of_a_choice_is_that_of_the_right_option(tmp_path: Path) -> None:
    path = write_world(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "search.jsonl").read_text().splitlines()]
    chosen = [row | {"options": [f" {row['answer']}", " w5 w6 w7"], "right": 0} for row in rows]
    (tmp_path / "choice.jsonl").write_text("".join(json.dumps(row) + "\n" for row in chosen))
    objective = {"name": "copy", "kind": "choice", "prompt": "{question}", "choices": "{options}", "answer": "{right}"}
    objective["data"] = {"search": str(tmp_path / "choice.jsonl")}  # type: ignore[assignment]
    world = write_world(tmp_path / "choice", objectives=[objective])
    likely, choice = engine_of(path), engine_of(world)
    genome = np.full((1, likely.dimension), 0.4, np.float32)
    one, other = likely.gradients(genome)[0], choice.gradients(genome)[0]
    np.testing.assert_allclose(one.gradient, other.gradient, rtol=1e-4, atol=1e-6)


def test_descent_follows_its_gradient_and_stays_in_the_box() -> None:
    made = build("adam", 2, None, {"learning_rate": 0.1})
    target = np.array([0.8, 1.7], np.float32)
    state: Any = made.init(None, np.array([0.2, 0.2], np.float32))  # type: ignore[arg-type]
    for number in range(80):
        genomes, state = made.ask(None, number, state)  # type: ignore[arg-type]
        assert ((genomes >= 0) & (genomes <= 1)).all()
        state = made.tell(None, number, genomes, 2 * (genomes - target), state)  # type: ignore[arg-type]
    np.testing.assert_allclose(state["genome"], [0.8, 1.0], atol=0.05)


def test_adam_searches_and_goes_on_after_an_interruption(tmp_path: Path) -> None:
    search = {"algorithm": "adam", "options": {"learning_rate": 0.05}, "population": "auto", "generations": 6}
    config = write_world(tmp_path, search=search | {"baselines": ["uniform"]})
    whole = evolve(config, tmp_path / "whole")
    scores = [generation.results[0].score for generation in whole.history.stage("parameter")]
    assert scores[-1] > scores[0]  # type: ignore[operator]
    # The gradient's own forward pass gave them.
    assert {line["forwards"] for line in lines(tmp_path / "whole") if line["stage"] == "parameter"} == {3}
    assert whole.history.forwards("parameter") == 3 * 6

    def interrupt(event: Progress) -> None:
        if event.stage == "parameter" and event.done == 3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        evolve(config, tmp_path / "cut", progress=interrupt)
    evolve(config, tmp_path / "cut")
    assert lines(tmp_path / "cut") == lines(tmp_path / "whole")


def test_a_score_that_no_gradient_gives_is_scored_besides(tmp_path: Path) -> None:
    search = {"algorithm": "adam", "population": "auto"}
    both = ParameterEngine(read_config(write_world(tmp_path / "both", objectives=OBJECTIVES, search=search)))
    path = DataflowEngine(read_config(write_world(tmp_path / "path", space={"kind": "dataflow"}, search=search)))
    assert not both.gradient_scores and not path.gradient_scores

    class Followed:
        gradient_scores, sampled = False, False

        def gradients(self, genomes: np.ndarray, draw: int | None) -> list[Result]:
            return [Result(-1.0, 0.0, {}, 2.0, gradient=np.ones(2, np.float32), forwards=3)]

    score = followed(lambda genomes, _: [Result(0.5, -1.0, {"say": 0.5}, 1.0)], Followed())  # type: ignore[arg-type]
    [result] = score(np.zeros((1, 2), np.float32), 0)
    assert (result.score, result.tie, result.seconds, result.forwards) == (0.5, -1.0, 3.0, 4)
    np.testing.assert_array_equal(result.gradient, 1)


def test_a_warm_start_is_recorded_and_starts_the_search(tmp_path: Path) -> None:
    search = {"warm_start": {"kind": "gradient", "steps": 5, "learning_rate": 0.05}, "generations": 1}
    run = evolve(write_world(tmp_path, search=search), tmp_path / "run")
    steps = run.history.stage("parameter_warm_start")
    assert [step.number for step in steps] == [0, 1, 2, 3, 4]
    assert steps[-1].results[0].score > steps[0].results[0].score  # type: ignore[operator]
    assert run.summary["start"].endswith("then 5 gradient steps")
    # A step counts for three candidates of the random search.
    assert run.history.candidates("random_search") >= 3 * 5 + 4
    assert evolve(tmp_path / "evolve.yaml", tmp_path / "run").history.digest == run.history.digest


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"warm_start": "gradients"}, "search.warm_start"),
        ({"warm_start": {"stps": 3}}, "did you mean 'steps'"),
        ({"algorithm": "adam", "population": 4}, "follows one candidate"),
        ({"algorithm": "adam", "population": "auto", "options": {"rate": 1}}, "unknown option 'rate'"),
        ({"algorithm": "adam", "population": "auto", "evaluation": {"kind": "racing"}}, "needs all scores"),
    ],
)
def test_what_cannot_be_followed_is_refused(search: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        evolve(write_world(tmp_path, search=search), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gradient_needs_reference_answers(tmp_path: Path) -> None:
    objective = {"name": "short", "kind": "generate", "prompt": "{question}", "metric": "brevity", "max_new_tokens": 3}
    world = write_world(
        tmp_path, objectives=[objective | {"data": {"search": "search.jsonl"}}], search={"warm_start": "gradient"}
    )
    with pytest.raises(InputError, match="short: has no reference answers"):
        evolve(world, tmp_path / "run")


def lines(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def test_open_and_shut_gates_are_a_path_and_gates_have_a_gradient(tmp_path: Path) -> None:
    space = {"kind": "dataflow", "repeats": 1, "scales": "none"}
    engine = DataflowEngine(read_config(write_world(tmp_path, space=space, search={"population": 4})))
    engine.load()
    genome = (np.random.default_rng(1).random(engine.dimension) > 0.5).astype(np.float32)
    [gated], [scored] = engine.gradients(genome[None]), engine.evaluate(genome[None])
    assert gated.score is not None and scored.score is not None and gated.gradient is not None
    np.testing.assert_allclose(gated.score, scored.score, atol=1e-5)

    half = engine.relaxed(genome)
    gradient = engine.gradients(half[None])[0].gradient
    assert gradient is not None
    step = 5e-3
    for gene in (0, engine.dimension - 1):
        moved = np.stack([half, half])
        moved[0, gene] += step
        moved[1, gene] -= step
        high, low = (result.score for result in engine.gradients(moved))
        np.testing.assert_allclose(gradient[gene], (high - low) / (2 * step), rtol=0.03, atol=2e-4)  # type: ignore[operator]
    # What the steps decide stays decided, and can be decided anew.
    assert ((engine.tightened(half) > 0.5) == (half > 0.5)).all() and engine.tightened(half).max() < 0.8
