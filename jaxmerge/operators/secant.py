"""A gradient for parameters that are looked up on a grid, such as densities.

As a function of such a parameter a merge is a staircase: elements enter and leave all at once, and between the steps
nothing moves. So a backward pass takes the secant: of every merged element the difference between the merges at the two
neighbouring grid points, over their distance. Forward it is the merge itself, which makes this a straight-through
estimator (Bengio et al. 2013, arXiv:1308.3432): an element's gate is hard, and in the backward pass it opens evenly
over two steps of the grid, which is the only temperature there is. At an end of the grid it is the secant of one step.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.interface import Operator, Params, Stats, Tile


@dataclass(frozen=True)
class Steps:
    """The grid of a parameter: from low to high in equal steps."""

    parameter: str
    low: float
    high: float
    step: float


@lru_cache(maxsize=64)
def with_secants(operator: Operator, grids: tuple[Steps, ...]) -> Operator:
    """The operator with a gradient by the parameters of `grids`. Its merges are the same."""

    @jax.custom_jvp
    def apply(tile: Tile, stats: Stats, params: Params) -> Array:
        return operator.apply(tile, stats, params)

    @apply.defjvp
    def along(primals: tuple[Tile, Stats, Params], tangents: tuple[Any, Any, Params]) -> tuple[Array, Array]:
        tile, stats, params = primals
        merged, tangent = jax.jvp(operator.apply, primals, tangents)
        for grid in grids:
            value, moves = jnp.asarray(params[grid.parameter]), jnp.asarray(tangents[2][grid.parameter])
            up = jnp.minimum(value + grid.step, grid.high)
            down = jnp.maximum(value - grid.step, grid.low)
            for source in range(value.size):
                # Of the parameter of one source, or of the whole merge.
                only = jnp.arange(value.size).reshape(value.shape) == source
                above, below = (
                    operator.apply(tile, stats, {**params, grid.parameter: jnp.where(only, moved, value)})
                    for moved in (up, down)
                )
                tangent += (above - below) / (up - down).ravel()[source] * moves.ravel()[source]
        return merged, tangent

    return replace(operator, apply=apply)
