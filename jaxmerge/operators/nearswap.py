"""Nearswap: towards the other model where it is near to the base."""

import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.arithmetic import divided, rounded
from jaxmerge.operators.interface import Operator, Parameter, Params, Stats, Tile

NEAREST = 1e-6  # distances below it count as this


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    other = tile.sources[0]
    distance = jnp.maximum(jnp.abs(tile.base - other), NEAREST)
    share = jnp.clip(divided(params["t"], distance), 0.0, 1.0)
    return rounded(share * other) + rounded((1 - share) * tile.base)


OPERATOR = Operator(
    "nearswap",
    "The base where the other model is far from it, the other model where it is nearer than t.",
    apply,
    (
        Parameter(
            "t",
            "distance up to which the other model's value is taken; farther away, less of it",
            None,
            low=0.0,
            search=(0.0, 0.01),
        ),
    ),
    needs_base=True,
    max_sources=1,
    lacking="copy_base",
    paper="alchemonaut 2024, QuartetAnemoi-70B",
)
