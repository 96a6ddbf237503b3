"""evosax's algorithms, of both kinds, as one.

Distribution-based ones start from a mean. Population-based ones start from a population that has been
evaluated, which is generation 0 here: `ask` proposes it and `tell` hands it over.
"""

import dataclasses
import inspect
from collections.abc import Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from evosax.algorithms import population_based_algorithms
from evosax.algorithms.base import EvolutionaryAlgorithm
from jax import Array

from jaxmerge.errors import InputError, unknown
from jaxmerge.search.algorithms.registry import default_population, spread

# What the search decides itself.
TAKEN = {"self", "population_size", "solution", "fitness_shaping_fn", "metrics_fn"}
# Parts of a state that keep a fitness for later generations.
KEPT_FITNESS = {"fitness", "best_fitness_shaped"}


def build(
    kind: type[EvolutionaryAlgorithm],
    name: str,
    dimension: int,
    population: int | None,
    sigma: float,
    options: dict[str, Any],
) -> "Evosax":
    """An evosax algorithm with its options: arguments of its constructor, fields of its parameters,
    `elite_ratio`.

    sigma is its `std_init` or its `std_schedule`, whichever it has, unless the options say otherwise.
    """
    signature = inspect.signature(kind.__init__).parameters
    arguments = {key: value for key, value in options.items() if key in signature and key not in TAKEN}
    if "optimizer" in arguments:
        arguments["optimizer"] = _optimizer(arguments["optimizer"])
    if "std_schedule" in arguments:
        raise InputError("search.options.std_schedule: set search.sigma instead")
    if "std_schedule" in signature:
        arguments["std_schedule"] = optax.constant_schedule(sigma)
    if "num_populations" in signature:
        arguments.setdefault("num_populations", 2)
    made = _construct(kind, name, dimension, population, arguments)
    params = made.default_params
    fields = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    changes: dict[str, Any] = {"std_init": sigma} if "std_init" in fields else {}
    for key, value in options.items():
        if key in fields:
            changes[key] = _number(value, f"search.options.{key}")
        elif key == "elite_ratio" and hasattr(made, key):
            made.elite_ratio = float(_number(value, f"search.options.{key}"))
            params = made.default_params
        elif key not in arguments:
            known = {*fields, *signature, "elite_ratio"} - TAKEN - {"std_schedule"}
            raise unknown("option", key, known, f"search.options: {name}")
    changes = {key: jnp.asarray(value, jnp.result_type(fields[key])) for key, value in changes.items()}
    # Strongly typed from the start: a weak type would compile `ask` and `tell` a second time.
    params = jax.device_get(params.replace(**changes))
    return Evosax(made, params, sigma, name in population_based_algorithms)


def _construct(
    kind: type[EvolutionaryAlgorithm],
    name: str,
    dimension: int,
    population: int | None,
    arguments: Mapping[str, Any],
) -> EvolutionaryAlgorithm:
    """With `population` or, where it is None, the next size from the default on that the algorithm accepts."""
    least = default_population(dimension)
    # Stein variational ones have several populations; ours is all of their candidates.
    parts = arguments.get("num_populations", 1)
    refusal = f"it must be a multiple of {parts}"
    for size in range(least, least + 64) if population is None else [population]:
        if size % parts:
            continue
        try:
            return kind(population_size=size // parts, solution=jnp.zeros(dimension), **arguments)
        except AssertionError as error:
            refusal = str(error).rstrip(".")
        except (TypeError, ValueError) as error:
            raise InputError(f"search.options: {name} refuses them: {error}") from error
    raise InputError(f"search.population: {name} refuses {population or 'every size'}: {refusal}")


@dataclasses.dataclass(frozen=True)
class Evosax:
    """made: the evosax object. params: its parameters. from_population: whether it is population-based."""

    made: Any
    params: Any
    sigma: float
    from_population: bool

    @cached_property
    def population(self) -> int:
        if self.from_population:
            return int(self.made.population_size)
        # Some ask for more or fewer than their `population_size`: only the shape says it.
        state = jax.eval_shape(self.made._init, jax.random.key(0), self.params)
        return int(jax.eval_shape(self.made.ask, jax.random.key(0), state, self.params)[0].shape[0])

    @cached_property
    def compares(self) -> bool:
        state = jax.eval_shape(self.made._init, jax.random.key(0), self.params)
        return bool(KEPT_FITNESS & {field.name for field in dataclasses.fields(state)})

    def init(self, key: Array, start: np.ndarray) -> Any:
        start = np.asarray(start, np.float32)
        if self.from_population:
            # Replaced when generation 0 is told; until then it carries the population to be evaluated.
            first = spread(key, start, self.sigma, self.population)
            return _numpy(self.made.init(key, first, np.full(self.population, np.inf, np.float32), self.params))
        if means := getattr(self.made, "num_populations", None):
            return _numpy(self.made.init(key, spread(key, start, self.sigma, means), self.params))
        return _numpy(self.made.init(key, start, self.params))

    def ask(self, key: Array, generation: int, state: Any) -> tuple[np.ndarray, Any]:
        if self.from_population and generation == 0:
            return state.population, state
        genomes, state = self.made.ask(key, state, self.params)
        genomes = np.asarray(genomes)
        return genomes, (_numpy(state), genomes) if _remembers_draws(state) else _numpy(state)

    @cached_property
    def redraws(self) -> bool:
        """Whether it has one mean, and may be told of other draws around it than those it made last."""
        if self.from_population or hasattr(self.made, "num_populations"):
            return False
        keys = jax.random.split(jax.random.key(0))
        state = self.init(keys[0], np.full(self.made.num_dims, 0.5, np.float32))
        one, other = (jax.tree.leaves(self.made.ask(key, state, self.params)[1]) for key in keys)
        alike = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
        return alike and hasattr(state, "mean")

    def draws(self, key: Array, state: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
        """`count` genomes, as `ask` would draw them, `[count, d]`, and the mean that they are drawn around."""
        keys = jax.random.split(key, -(-count // self.population))
        genomes = jax.vmap(lambda key: self.made.ask(key, state, self.params)[0])(keys)
        return np.asarray(genomes).reshape(-1, genomes.shape[-1])[:count], np.asarray(self.made.get_mean(state))

    def tell(self, key: Array, generation: int, genomes: np.ndarray, fitness: np.ndarray, state: Any) -> Any:
        if self.from_population and generation == 0:
            return _numpy(self.made.init(key, genomes, fitness, self.params))
        if isinstance(state, tuple):
            # MA-ES and its kin use the normal draws behind their points: folded points would not fit these,
            # and the step size runs away. They see the box's mirror images: points as drawn, with the fitness
            # of the folded.
            state, genomes = state
        state, _ = self.made.tell(key, genomes, fitness, state, self.params)
        return _numpy(state)


def _remembers_draws(state: Any) -> bool:
    return hasattr(state, "z")


_numpy = partial(jax.tree.map, np.asarray)


def _optimizer(value: Any) -> optax.GradientTransformation:
    """`{name: adam, learning_rate: 0.01}` as an optimizer of optax."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise InputError("search.options.optimizer: write {name: adam, learning_rate: 0.01}")
    arguments = dict(value)
    make = getattr(optax, arguments.pop("name"), None)
    try:
        made = make(**arguments) if callable(make) else None
    except (TypeError, ValueError) as error:
        raise InputError(f"search.options.optimizer: {value['name']}: {error}") from error
    if not isinstance(made, optax.GradientTransformation):
        raise InputError(f"search.options.optimizer: optax has no optimizer '{value['name']}'")
    return made


def _number(value: Any, where: str) -> Any:
    if isinstance(value, int | float):
        return value
    raise InputError(f"{where}: must be a number, not {value!r}")
