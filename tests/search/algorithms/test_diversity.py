"""CycleQD, M2N2 and Model Swarms."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from two_objectives import TwoObjectives, front_of, write_two

from jaxmerge.errors import InputError
from jaxmerge.search.algorithms.bounds import reflect
from jaxmerge.search.algorithms.m2n2 import M2N2
from jaxmerge.search.algorithms.pareto import hypervolume
from jaxmerge.search.algorithms.registry import algorithm
from jaxmerge.search.dry_run import plan
from jaxmerge.search.evolve import evolve
from jaxmerge.search.keys import draw_key, stage_key
from jaxmerge.search.run import Run

KEY = stage_key(0, "parameter")


def config_of(folder: Path, name: str) -> Path:
    options = {"cycleqd": "{cells: 4}", "m2n2": "{archive: 15}"}[name]
    config = write_two(folder, name)
    config.write_text(config.read_text().replace("seed: 3,", f"seed: 3, options: {options},"))
    return config


def lines(out: Path) -> list[dict[str, Any]]:
    records = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key != "seconds"} for record in records]


def test_cycleqd_beats_random_search_on_zdt1() -> None:
    volumes = [
        hypervolume(-front_of(algorithm(name, 8, population=20, objectives=2), 40, 0), np.array([-1.5, -6.0]))
        for name in ("cycleqd", "random_search")
    ]
    assert volumes[0] > volumes[1] + 0.5


def test_cycleqd_keeps_the_best_of_every_cell_and_no_other() -> None:
    made: Any = algorithm("cycleqd", 3, population=6, objectives=2, options={"cells": 4})
    state = made.init(draw_key(KEY, 0, "init"), np.full(3, 0.5, np.float32))
    told: list[tuple[float, float]] = []
    random = np.random.default_rng(0)
    for generation in range(12):
        genomes, state = made.ask(draw_key(KEY, generation, "ask"), generation, state)
        losses = random.integers(0, 20, (6, 2)).astype(np.float64)
        losses[0] = [0, 19] if generation == 0 else np.inf  # the range is known from the first on
        losses[1] = [19, 0] if generation == 0 else losses[1]
        state = made.tell(draw_key(KEY, generation, "tell"), generation, genomes, losses, state)
        told += [tuple(row) for row in losses if np.isfinite(row).all()]
    expected = set()
    for quality in range(2):
        for cell in range(4):
            inside = [row for row in told if min(int(row[1 - quality] / 19 * 4), 3) == cell]
            if inside:
                expected.add((quality, cell, min(row[quality] for row in inside)))
    kept = [tuple(row) for row in state["losses"]]
    found = {
        (quality, cell, min(row[quality] for row in kept if min(int(row[1 - quality] / 19 * 4), 3) == cell))
        for quality in range(2)
        for cell in range(4)
        if any(min(int(row[1 - quality] / 19 * 4), 3) == cell for row in kept)
    }
    assert found == expected
    assert len(kept) <= made.archive == 8


def test_cycleqd_turns_its_quality_from_generation_to_generation() -> None:
    made: Any = algorithm("cycleqd", 2, population=40, objectives=2, options={"cells": 2, "mutation_rate": 0.0})
    # Of each cell of the first objective's archive the left is best, of the second's the right.
    genomes = np.float32([[0, 0], [0, 0.1], [1, 1], [1, 0.9]])
    losses = np.array([[0.0, 3.0], [1.0, 2.0], [2.0, 1.0], [3.0, 0.0]])
    state = {"genomes": genomes, "losses": losses, "range": np.array([[0.0, 0.0], [3.0, 3.0]])}
    assert list(made._elites(losses, state["range"], 0)) == [0, 2]
    assert list(made._elites(losses, state["range"], 1)) == [1, 3]
    for generation, low, high in ((0, 0.0, 1.0), (1, 0.1, 0.9)):
        children, _ = made.ask(jax.random.key(3), generation, state)
        # Crossover is a mean with nearly equal shares.
        assert np.abs(children[:, 1] - (low + high) / 2).max() < 0.05


def test_m2n2_finds_what_no_single_parent_has() -> None:
    """A hundred examples, each solved near a value of one gene: on them it is far ahead of random search."""
    random = np.random.default_rng(0)
    target, thresholds = random.random(10), random.uniform(0.02, 0.2, 100)
    gene = np.arange(100) % 10
    best = {}
    for name in ("m2n2", "random_search"):
        made = algorithm(name, 10, population=12)
        state, found = made.init(draw_key(KEY, 0, "init"), np.full(10, 0.5, np.float32)), 0.0
        for generation in range(60):
            genomes, state = made.ask(draw_key(KEY, generation, "ask"), generation, state)
            genomes = reflect(genomes)
            scores = (np.abs(genomes - target)[:, gene] < thresholds).astype(np.float64)
            found = max(found, scores.mean(axis=1).max())
            losses = -scores
            losses[generation % 12] = np.inf
            state = made.tell(draw_key(KEY, generation, "tell"), generation, genomes, losses, state)
        best[name] = found
    assert best["m2n2"] > best["random_search"] + 0.2


def m2n2(**options: Any) -> M2N2:
    made = algorithm(
        "m2n2", 4, options={"archive": 3, "mutation_std": 0.0, **options}, positions=np.float64([0, 0, 1, 1])
    )
    assert isinstance(made, M2N2)
    return made


def test_m2n2_keeps_a_specialist_and_drops_a_copy() -> None:
    scores = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1]], np.float64)
    genomes = np.float32([[0.1] * 4, [0.2] * 4, [0.3] * 4, [0.4] * 4])
    made = m2n2()
    np.testing.assert_allclose(made._shares(-scores).sum(1), [1 / 3 + 1 / 3 + 1 / 2] * 2 + [2 / 3, 1], rtol=1e-6)
    state = made.tell(jax.random.key(0), 0, genomes, -scores, made.init(jax.random.key(0), genomes[0]))
    assert sorted(state["genomes"][:, 0].tolist()) == pytest.approx([0.1, 0.2, 0.4])
    # Log-likelihoods have shares too.
    assert (made._shares(-(scores - 5)) >= 0).all() and made._shares(-(scores - 5))[3, 3] > 0.99


def test_m2n2_mates_by_complementary_strengths_and_splits_between_positions() -> None:
    made = m2n2()
    genomes = np.float32([[0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    state = {"genomes": genomes, "losses": -np.array([[1, 0], [0, 1], [1, 0]], np.float64)}
    children = np.concatenate([made.ask(jax.random.key(i), 1, state)[0] for i in range(20)])
    assert (children[:, 0] == children[:, 1]).all() and (children[:, 2] == children[:, 3]).all()
    # A copy of itself brings nothing, so that every child mixes the two kinds: w on one side, 1 - w on the other.
    np.testing.assert_allclose(children[:, 0] + children[:, 2], 1, atol=1e-6)


@pytest.mark.parametrize("name", ["cycleqd", "m2n2"])
def test_a_run_goes_on_to_the_same_history(tmp_path: Path, name: str) -> None:
    config = config_of(tmp_path / "config", name)
    evolve(config, tmp_path / "whole", build=TwoObjectives)
    evolve(config, tmp_path / "parts", overrides=["search.generations=3"], build=TwoObjectives)
    if name == "m2n2":
        kept = tmp_path / "parts" / "state" / "examples" / "parameter"
        assert len(list(kept.iterdir())) == 3
        (kept / "000001.npz").write_bytes(b"damaged")
    evolve(config, tmp_path / "parts", build=TwoObjectives)
    mine = [[r for r in lines(tmp_path / out) if r["stage"] == "parameter"] for out in ("whole", "parts")]
    assert mine[0] == mine[1] and len(mine[0]) == 60
    summary = Run(tmp_path / "parts", TwoObjectives).summary
    assert ("front" in summary) == (name == "cycleqd")
    assert summary["best"] == Run(tmp_path / "whole", TwoObjectives).summary["best"]


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("cycleqd", "search.options={cells: 31}", "an archive of up to 62 candidates, and the budget is 60"),
        ("m2n2", "search.options={archive: 61}", "an archive of up to 61 candidates"),
        ("m2n2", "search.options={archive: 1}", "1 is not a whole number in"),
        ("m2n2", "search.options={archive: 2.5}", "must be a whole number"),
        ("cycleqd", "search.options={cels: 3}", "unknown option 'cels'; did you mean 'cells'"),
        ("m2n2", "search.evaluation={kind: racing}", "m2n2 needs all scores of every candidate; use full"),
        ("cycleqd", "search.evaluation={kind: racing}", "cycleqd needs all scores of every candidate; use full"),
        ("m2n2", "search.pick=knee", "m2n2 searches for one best candidate"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, name: str, override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(config_of(tmp_path, name), [override], TwoObjectives)


def test_m2n2_needs_the_same_examples_in_every_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TwoObjectives, "sampled", True)
    with pytest.raises(InputError, match="m2n2 compares examples between generations; remove 'sample'"):
        plan(config_of(tmp_path, "m2n2"), (), TwoObjectives)


def test_a_swarm_closes_in_on_the_best_point() -> None:
    nearest = {}
    for name in ("model_swarms", "random_search"):
        made = algorithm(name, 6, population=24, sigma=0.2)
        state, found = made.init(draw_key(KEY, 0, "init"), np.full(6, 0.5, np.float32)), []
        for generation in range(40):
            genomes, state = made.ask(draw_key(KEY, generation, "ask"), generation, state)
            fitness = np.abs(reflect(genomes) - np.linspace(0.2, 0.8, 6)).sum(axis=1).astype(np.float32)
            found.append(fitness)
            state = made.tell(draw_key(KEY, generation, "tell"), generation, reflect(genomes), fitness, state)
        nearest[name] = np.concatenate(found).min(), found[-1].mean()
    assert nearest["model_swarms"][0] < nearest["random_search"][0]
    assert nearest["model_swarms"][1] < nearest["random_search"][1] / 2
    with pytest.raises(InputError, match=r"search.options.patience: must be a whole number"):
        algorithm("model_swarms", 3, options={"patience": 2.5})


def test_a_swarm_follows_the_papers_rule() -> None:
    made: Any = algorithm("model_swarms", 2, population=2, options={"p_coeff": 0.0, "g_coeff": 0.0, "w_coeff": 0.0})
    state = made.init(jax.random.key(0), np.float32([0.5, 0.5]))
    first, state = made.ask(jax.random.key(1), 0, state)
    velocity = state["v"]
    state = made.tell(jax.random.key(1), 0, first, np.float32([1, 2]), state)
    assert (state["worst"] == first[1]).all()
    asked, state = made.ask(jax.random.key(2), 1, state)
    # Only inertia pulls: divided by C the velocity stays as it is.
    np.testing.assert_allclose(asked, first + velocity, atol=1e-6)
    for generation in range(1, 6):  # nothing better is found for `patience` generations
        state = made.tell(jax.random.key(3), generation, asked, np.float32([3, 3]), state)
    assert (state["x"] == first).all() and (state["v"] == 0).all()
