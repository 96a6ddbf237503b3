"""TALL masks: what one model's task vector says within the sum of all."""

import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.arithmetic import depart, rounded
from jaxmerge.operators.interface import Operator, Parameter, Params, Stats, Tile
from jaxmerge.operators.ram import summed
from jaxmerge.operators.task_vector import LAMBDA

PAPER = "Wang et al. 2024, Localizing Task Information, arXiv:2405.07813"
WEIGHT = Parameter(
    "weight", "how much of the source's task vector is in the sum", 1.0, search=(0.0, 1.5), per_source=True
)
THRESHOLD = Parameter(
    "tall_lambda",
    "how large the source's task vector must be, relative to that of all others together, to count in an element",
    0.4,
    low=0.0,
    search=(0.2, 0.6),
    per_source=True,
)


def masks(tile: Tile, params: Params) -> tuple[Array, list[Array]]:
    """The sum of the task vectors, and for each of them where it matters: `|t_i| >= lambda_i |sum - t_i|`."""
    assert tile.base is not None
    weights = jnp.asarray(params["weight"], jnp.float32)
    vectors = [rounded(weights[i] * (source - tile.base)) for i, source in enumerate(tile.sources)]
    total = summed(vectors)
    limits = params["tall_lambda"]
    return total, [jnp.abs(v) >= rounded(limits[i] * jnp.abs(total - v)) for i, v in enumerate(vectors)]


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    total, found = masks(tile, params)
    own = found[0]
    for i, mask in enumerate(found[1:], 2):
        own = jnp.where(params["task"] >= i, mask, own)
    return depart(tile.base, rounded(jnp.where(own, total, 0) * params["lambda"]))


OPERATOR = Operator(
    "tall_mask",
    "One model found again in the sum of all task vectors: the elements in which its own matters.",
    apply,
    (
        WEIGHT,
        THRESHOLD,
        Parameter("task", "which model: 1 is the first; past the last means the last", 1, kind="integer", low=1),
        LAMBDA,
    ),
    needs_base=True,
    paper=PAPER,
)
