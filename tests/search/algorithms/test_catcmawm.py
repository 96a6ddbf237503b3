"""CatCMA with margin over switches and scales, its object made anew in every call."""

from typing import Any

import jax
import numpy as np
import pytest
from cmaes import CatCMAwM as Library

from jaxmerge.errors import InputError
from jaxmerge.search.algorithms.bounds import reflect
from jaxmerge.search.algorithms.registry import algorithm
from jaxmerge.search.keys import host_seed

SWITCHES, SCALES = 8, 4
WANTED = np.array([1, 0, 1, 1, 0, 0, 1, 0])


def made(binary: int = SWITCHES, others: int = SCALES, first: int = 0, **changes: Any) -> Any:
    return algorithm("catcmawm", binary + others, binary=range(first, first + binary), population=12, **changes)


def loss(genomes: np.ndarray) -> np.ndarray:
    """Zero where the switches are as wanted and the scales at 0.7."""
    wrong = (genomes[:, :SWITCHES] != WANTED).sum(1)
    return (wrong + np.square(genomes[:, SWITCHES:] - 0.7).sum(1)).astype(np.float32)


def keys(generation: int) -> tuple[jax.Array, jax.Array]:
    return tuple(jax.random.split(jax.random.fold_in(jax.random.key(3), generation)))  # type: ignore[return-value]


@pytest.mark.parametrize("others", [SCALES, 0])
def test_it_finds_switches_and_scales(others: int) -> None:
    search = made(others=others, sigma=0.2)
    state = search.init(jax.random.key(0), np.full(SWITCHES + others, 0.5, np.float32))
    best = np.inf
    for generation in range(60):
        ask, tell = keys(generation)
        genomes, state = search.ask(ask, generation, state)
        assert genomes.dtype == np.float32 and set(np.unique(genomes[:, :SWITCHES])) <= {0, 1}
        np.testing.assert_array_equal(reflect(genomes), genomes)
        losses = loss(genomes)
        best = min(best, losses.min())
        state = search.tell(tell, generation, genomes, losses, state)
        # What is stored is arrays of the same shapes.
        state = jax.tree.map(lambda array: np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape), state)
    assert best < 0.02


def test_it_is_the_librarys_own_search() -> None:
    search = made(sigma=0.2)
    state = search.init(jax.random.key(0), np.full(12, 0.5, np.float32))
    library = Library(
        x_space=[[0.0, 1.0]] * SCALES,
        c_space=[2] * SWITCHES,
        population_size=12,
        mean=np.full(SCALES, 0.5),
        sigma=0.2,
        cov=np.eye(SCALES),
    )
    for generation in range(12):
        ask, tell = keys(generation)
        genomes, state = search.ask(ask, generation, state)
        library._rng.seed(host_seed(ask))
        solutions = [library.ask() for _ in range(12)]
        theirs = np.stack([np.concatenate([solution.c[:, 1], solution.x]) for solution in solutions])
        np.testing.assert_allclose(genomes, theirs, atol=1e-5)
        losses = loss(genomes)
        state = search.tell(tell, generation, genomes, losses, state)
        library.tell([(solution, float(value)) for solution, value in zip(solutions, losses, strict=True)])


def test_switches_may_stand_between_other_genes() -> None:
    """As in a joint space: the same search with its genes in another order."""
    first, between = made(sigma=0.2), made(first=1, sigma=0.2)
    order = [*range(1, 1 + SWITCHES), 0, *range(1 + SWITCHES, SWITCHES + SCALES)]
    start = np.random.default_rng(2).random(12, np.float32)
    states = first.init(jax.random.key(0), start[order]), between.init(jax.random.key(0), start)
    for generation in range(3):
        ask, tell = keys(generation)
        genomes, one = first.ask(ask, generation, states[0])
        moved, other = between.ask(ask, generation, states[1])
        np.testing.assert_array_equal(moved[:, order], genomes)
        states = (
            first.tell(tell, generation, genomes, loss(genomes), one),
            between.tell(tell, generation, moved, loss(genomes), other),
        )


def test_switches_start_with_the_probability_of_the_start() -> None:
    search = made(sigma=0.1667)
    start = np.full(12, 0.5, np.float32)
    start[:4] = 0.5 + 2 * 0.1667
    state = search.init(jax.random.key(0), start)
    drawn = np.concatenate([search.ask(jax.random.key(i), 0, state)[0] for i in range(100)])
    assert (np.abs(drawn[:, :4].mean(0) - 0.96) < 0.03).all()  # 0.977, kept from 1 by the margin
    assert (np.abs(drawn[:, 4:SWITCHES].mean(0) - 0.5) < 0.06).all()


def test_what_it_cannot_search_is_refused() -> None:
    with pytest.raises(InputError, match=r"search\.algorithm: catcmawm is for spaces with switches"):
        made(binary=0)
    with pytest.raises(InputError, match="takes up to 1024 genes besides the switches, not 2000; use scales: hop"):
        made(others=2000)
    with pytest.raises(InputError, match=r"search\.options: catcmawm has none"):
        made(options={"margin": 0.1})
