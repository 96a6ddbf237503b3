"""Generalised task arithmetic: `W_b + lambda * combine(w_i * trim(W_i - W_b))`.

Task arithmetic, TIES, DARE, Breadcrumbs and DELLA differ in how a task vector is trimmed, in whether signs are
elected, and in their defaults. The order of operations is mergekit's, each rounded to float32.
"""

from dataclasses import replace

import jax.numpy as jnp
from jax import Array

from jaxmerge.kernels.merge_tile.consensus import Combine, plain_sum
from jaxmerge.operators.arithmetic import depart, divided, rounded
from jaxmerge.operators.interface import Coefficients, Operator, Parameter, Params, Stats, Tile
from jaxmerge.operators.trims import NONE, Trim

WEIGHT = Parameter(
    "weight", "how much of the source's task vector; negative takes it away", None, search=(0.0, 1.5), per_source=True
)
LAMBDA = Parameter("lambda", "scale of the merged task vector", 1.0)
SCALE = replace(LAMBDA, search=(0.0, 2.0))  # of operators that have little else to search
INT8_MASK = Parameter("int8_mask", "accepted for mergekit's sake; it has no effect", False, kind="flag")


def task_vector_operator(
    name: str, summary: str, paper: str, *, trim: Trim, combine: Combine, normalize: bool, rescale: bool
) -> Operator:
    """An operator of the family. normalize, rescale: the defaults of these flags."""

    def apply(tile: Tile, stats: Stats, params: Params) -> Array:
        assert tile.base is not None
        weights = jnp.asarray(params["weight"], jnp.float32)
        updates = []
        for i, source in enumerate(tile.sources):
            delta = trim.apply(source - tile.base, i, tile, stats, params)
            updates.append(rounded(weights[i] * delta))
        mix, divisor = combine(updates, weights)
        mix = divided(mix, jnp.where(params["normalize"] != 0, divisor, 1.0))
        return depart(tile.base, rounded(mix * params["lambda"]))

    def coefficients(stats: Stats, params: Params, count: int, based: bool) -> Coefficients:
        weights = jnp.asarray(params["weight"], jnp.float32)
        _, divisor = combine(list(weights), weights)
        shares = params["lambda"] * weights / jnp.where(params["normalize"] != 0, divisor, 1.0)
        return 1.0, shares

    parameters = (
        WEIGHT,
        *trim.parameters,
        Parameter("normalize", "divide by the sum of the weights that took part", normalize, kind="flag"),
        Parameter("rescale", "restore each task vector's L1 norm after its trim", rescale, kind="flag", gridded=True),
        LAMBDA,
        INT8_MASK,
    )
    return Operator(
        name,
        summary,
        apply,
        parameters,
        trim.prepare,
        needs_base=True,
        check=trim.check,
        field_bytes=trim.field_bytes,
        coefficients=coefficients if trim is NONE and combine is plain_sum else None,
        paper=paper,
    )
