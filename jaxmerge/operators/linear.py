"""Linear: a weighted average of the sources. A declared base is a source like any other."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.arithmetic import divided, rounded
from jaxmerge.operators.interface import Coefficients, Operator, Parameter, Params, Stats, Tile


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    weights = jnp.asarray(params["weight"], jnp.float32)
    mix, divisor = rounded(weights[0] * tile.sources[0]), weights[0]
    for i, source in enumerate(tile.sources[1:], 1):
        mix, divisor = mix + weights[i] * source, divisor + weights[i]
    return divided(mix, jnp.where(params["normalize"] != 0, divisor, 1.0))


def coefficients(stats: Stats, params: Params, count: int, based: bool) -> Coefficients:
    weights = jnp.asarray(params["weight"], jnp.float32)
    return 0.0, weights / jnp.where(params["normalize"] != 0, weights.sum(), 1.0)


def check(params: Mapping[str, Any]) -> str | None:
    if params["normalize"] and abs(sum(params["weight"])) < 1e-8:
        return "the weights sum to zero: change one of them or set normalize: false"
    return None


OPERATOR = Operator(
    "linear",
    "A weighted average of the models.",
    apply,
    (
        Parameter("weight", "weight of the source", None, search=(0.0, 1.5), per_source=True),
        Parameter("normalize", "divide by the sum of the weights", True, kind="flag"),
    ),
    base_is_source=True,
    check=check,
    coefficients=coefficients,
    paper="Wortsman et al. 2022, Model Soups, arXiv:2203.05482",
)
