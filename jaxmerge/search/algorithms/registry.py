"""Search algorithms by name: any of evosax, random search, our own, a user's own.

All of them search the unit box and are told a fitness to minimise. Their state is a pytree of NumPy arrays
between calls, so that it can be stored and no call is compiled twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import jax
import numpy as np
from jax import Array

from jaxmerge.errors import InputError, unknown
from jaxmerge.plugins import load_function
from jaxmerge.search.algorithms.bounds import reflect

GROUP = "jaxmerge.algorithms"
# CMA-ES decomposes a d x d matrix in every generation: 38 ms at 256 dimensions, 114 ms at 1024.
LARGEST_FULL_COVARIANCE = 256
# Of optax, for `descent`.
OPTIMIZERS = ("adam", "adamw", "lion", "rmsprop", "sgd")
# Our own, each a module of this package with `build`.
OURS = ("nsga2", "cycleqd", "m2n2", "model_swarms", "catcmawm")


class Algorithm(Protocol):
    """compares: whether it compares fitness between generations (it is then told scores, else ranks).

    A user's own is a function `(dimension, population, sigma, options) -> Algorithm`; population is None for
    `auto`.
    """

    @property
    def population(self) -> int: ...

    @property
    def compares(self) -> bool: ...

    def init(self, key: Array, start: np.ndarray) -> Any:
        """The state before the first generation; start: float32 `[d]`."""
        ...

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        """Genomes `[P, d]`, which may lie outside the box, and the state to tell."""
        ...

    def tell(self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        """The next state. genomes: what was asked, folded into the box. fitness: float32 `[P]`, lower is
        better; see `Several` for algorithms that are told more."""
        ...


class Several(Algorithm, Protocol):
    """An algorithm that is told more than one number a candidate.

    `tell` gets a matrix, float64 `[P, C]`, lower is better, +inf in the whole row of a candidate that failed.
    several: what the columns are, the objectives in the config's order, all their examples one after another, or the
    genes, of which it is told the gradient.
    archive: how many candidates it keeps at most, where that does not depend on the population; 0 else.
    A state whose shapes differ from those of `init`'s is not read from a snapshot; the history is replayed whole.
    """

    @property
    def several(self) -> Literal["objectives", "examples", "gradient"]: ...

    @property
    def archive(self) -> int: ...


def several(algorithm: Algorithm) -> Literal["objectives", "examples", "gradient"] | None:
    """What an algorithm's columns are; None where it is told one number a candidate."""
    return getattr(algorithm, "several", None)


def choose(name: str, dimension: int) -> str:
    """The algorithm that `auto` stands for."""
    if name != "auto":
        return name
    return "CMA_ES" if dimension <= LARGEST_FULL_COVARIANCE else "Sep_CMA_ES"


def default_population(dimension: int) -> int:
    """4 + floor(3 ln d), as CMA-ES has it; at least 4."""
    return 4 + int(3 * np.log(max(dimension, 1)))


def algorithm(
    name: str,
    dimension: int,
    *,
    population: int | None = None,
    sigma: float = 1 / 6,
    options: Mapping[str, Any] | None = None,
    folder: Path = Path(),
    objectives: int = 1,
    positions: np.ndarray | None = None,
    binary: range = range(0),
) -> Algorithm:
    """The algorithm of a name: ours, evosax's, `random_search`, `module:function` or an entry point.

    population: candidates a generation; None: 4 + floor(3 ln d), raised to what the algorithm accepts.
    sigma: first standard deviation, in widths of the box. folder: where a user's module is looked for first.
    objectives: how many there are, for algorithms that are told of several.
    positions: where in the model each gene acts, float `[d]` from 0, its beginning, to 1; None: evenly, in their order.
    binary: the genes that only switch something on, above 0.5, or off.
    Raises InputError for an unknown name or option, and for a population that the algorithm refuses.
    """
    options = dict(options or {})
    if name in ("random_search", "RandomSearch"):
        if options:
            raise unknown("option", next(iter(options)), (), f"search.options: {name} has none")
        return RandomSearch(population or default_population(dimension), dimension)
    if name in OPTIMIZERS:
        from jaxmerge.search.algorithms.descent import build as descent

        return descent(name, dimension, population, options)
    if population == 1 and ":" not in name:
        raise InputError(f"search.population: {name} needs at least 2; only an optimizer such as adam follows one")
    if name in OURS:
        build = import_module(f"jaxmerge.search.algorithms.{name}").build
        made: Algorithm = build(
            dimension=dimension,
            population=population or default_population(dimension),
            sigma=sigma,
            options=options,
            objectives=objectives,
            positions=np.linspace(0.0, 1.0, dimension) if positions is None else positions,
            binary=binary,
        )
        return made
    from importlib.metadata import entry_points

    from evosax.algorithms import algorithms as evosax_algorithms

    registered = [entry.name for entry in entry_points(group=GROUP)]
    if ":" in name or name in registered:
        make = load_function(name, folder, GROUP)
        return make(dimension=dimension, population=population, sigma=sigma, options=options)
    if name not in evosax_algorithms:
        raise unknown(
            "algorithm",
            name,
            ("auto", "random_search", *OURS, *OPTIMIZERS, *evosax_algorithms, *registered),
            "search.algorithm",
        )
    from jaxmerge.search.algorithms.evosax import build

    return build(evosax_algorithms[name], name, dimension, population, sigma, options)


@dataclass(frozen=True)
class RandomSearch:
    """Points drawn uniformly from the box."""

    population: int
    dimension: int
    compares: bool = False

    def init(self, key: Array, start: np.ndarray) -> tuple[()]:
        return ()

    def ask(self, key: Array, generation: int, state: tuple[()]) -> tuple[np.ndarray, tuple[()]]:
        return np.asarray(jax.random.uniform(key, (self.population, self.dimension), np.float32)), state

    def tell(
        self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: tuple[()]
    ) -> tuple[()]:
        return state


def spread(key: Array, start: np.ndarray, sigma: float, count: int) -> np.ndarray:
    """A first population: the start itself and points around it, float32 `[count, d]`, in the box."""
    noise = np.array(jax.random.normal(key, (count, start.size), np.float32))
    noise[0] = 0
    return reflect(start[None] + sigma * noise)
