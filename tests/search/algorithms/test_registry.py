"""Algorithms by name."""

from pathlib import Path

import numpy as np
import pytest
from evosax.algorithms import algorithms as evosax_algorithms

from jaxmerge.errors import InputError
from jaxmerge.search.algorithms.bounds import reflect
from jaxmerge.search.algorithms.registry import Algorithm, algorithm, choose, default_population
from jaxmerge.search.keys import draw_key, stage_key
from jaxmerge.search.ranking import composite, ordinal
from jaxmerge.search.result import Result

TARGET = np.linspace(0.2, 0.8, 6).astype(np.float32)
START = np.full(6, 0.5, np.float32)


def best_of(made: Algorithm, generations: int, start: np.ndarray = START) -> float:
    """The best score on a cone after some generations, with one failed candidate in each."""
    key = stage_key(0, "parameter")
    state, best = made.init(draw_key(key, 0, "init"), start), -np.inf
    for g in range(generations):
        genomes, state = made.ask(draw_key(key, g, "ask"), g, state)
        genomes = reflect(genomes)
        assert genomes.shape == (made.population, len(start)) and np.isfinite(genomes).all()
        found = [Result(-float(np.abs(x - TARGET).sum()), 0.0, {}, 0.0) for x in genomes]
        best = max(best, *(r.score for r in found if r.score is not None))
        found[g % len(found)] = Result(None, 0.0, {}, 0.0, "failed")
        fitness = composite(found, 1e-3) if made.compares else ordinal(found, draw_key(key, g, "ties"))
        state = made.tell(draw_key(key, g, "tell"), g, genomes, fitness, state)
    return best


@pytest.mark.parametrize("name", evosax_algorithms)
def test_every_algorithm_of_evosax_can_be_made(name: str) -> None:
    made = algorithm(name, 6, sigma=0.2)
    assert made.population >= 4 and made.compares in (True, False)


@pytest.mark.parametrize("name", ["random_search", "Open_ES", "ESMC", "SV_Open_ES", "HillClimbing", "SimpleGA"])
def test_algorithms_of_every_shape_run(name: str) -> None:
    best_of(algorithm(name, 6, sigma=0.2), 2)


@pytest.mark.parametrize("name", ["CMA_ES", "MA_ES", "PSO", "MR15_GA"])
def test_algorithms_of_both_kinds_beat_random_search(name: str) -> None:
    """Also those that keep their normal draws, and those that compare fitness between generations."""
    assert best_of(algorithm(name, 6, sigma=0.2), 40) > best_of(algorithm("random_search", 6), 40) + 0.2


def test_population_is_a_function_of_the_dimension_and_even_where_needed() -> None:
    assert default_population(1) == 4 and default_population(16) == 12 and default_population(6) == 9
    assert algorithm("CMA_ES", 6).population == 9
    assert algorithm("PGPE", 6).population == 10
    assert algorithm("CMA_ES", 6, population=5).population == 5
    with pytest.raises(InputError, match=r"search.population: PGPE refuses 5: Population size must be even"):
        algorithm("PGPE", 6, population=5)


def test_auto_depends_on_the_dimension() -> None:
    assert choose("auto", 256) == "CMA_ES" and choose("auto", 257) == "Sep_CMA_ES" and choose("PSO", 3) == "PSO"


def test_options_reach_constructor_and_parameters() -> None:
    pso = algorithm("PSO", 3, options={"inertia_coeff": 0.5})
    assert pso.params.inertia_coeff == 0.5  # type: ignore[attr-defined]
    es = algorithm("Open_ES", 3, options={"optimizer": {"name": "sgd", "learning_rate": 0.5}})
    assert best_of(algorithm("Open_ES", 6, options={"optimizer": {"name": "adam", "learning_rate": 0.05}}), 3) > -2
    assert es.population % 2 == 0
    assert float(algorithm("CMA_ES", 3, sigma=0.3).params.std_init) == np.float32(0.3)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("CMAES", {}, "unknown algorithm 'CMAES'; did you mean 'CMA_ES'?"),
        (
            "CMA_ES",
            {"std_maxx": 1.0},
            "search.options: CMA_ES: unknown option 'std_maxx'; did you mean 'std_max'?",
        ),
        ("CMA_ES", {"std_max": "x"}, "search.options.std_max: must be a number"),
        ("random_search", {"x": 1}, "unknown option 'x'"),
        ("Open_ES", {"optimizer": "adam"}, "write {name: adam"),
        ("Open_ES", {"optimizer": {"name": "adma"}}, "optax has no optimizer 'adma'"),
        ("adam", {"learning_rate": 0}, "search.options.learning_rate: 0 is not a number"),
        ("nsga2", {"crossover_probb": 1}, "nsga2: unknown option 'crossover_probb'; did you mean 'crossover_prob'?"),
        ("nsga2", {"mutation_prob": 2}, "search.options.mutation_prob: 2 is not a number in [0, 1]"),
        ("nsga2", {"mutation_eta": "x"}, "search.options.mutation_eta: must be a number in [0, 1000], not 'x'"),
        ("nowhere:make", {}, "cannot import module 'nowhere'"),
    ],
)
def test_wrong_names_and_options(name: str, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as failed:
        algorithm(name, 3, options=options)
    assert message in str(failed.value)


@pytest.mark.parametrize("name", ["CMA_ES", "nsga2"])
def test_one_candidate_a_generation_is_for_optimizers_alone(name: str) -> None:
    with pytest.raises(InputError, match=f"search.population: {name} needs at least 2"):
        algorithm(name, 3, population=1)
    assert algorithm("adam", 3, population=1).population == 1


def test_a_users_own_algorithm(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from jaxmerge.search.algorithms.registry import RandomSearch\n"
        "def make(dimension, population, sigma, options):\n"
        "    return RandomSearch(options['n'], dimension)\n"
    )
    assert algorithm("mine:make", 6, options={"n": 7}, folder=tmp_path).population == 7
