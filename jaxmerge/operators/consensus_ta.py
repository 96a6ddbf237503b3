"""Consensus task arithmetic: the sum of the task vectors where it matters to several of them."""

import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.arithmetic import depart, rounded
from jaxmerge.operators.interface import Operator, Parameter, Params, Stats, Tile
from jaxmerge.operators.tall_mask import PAPER, THRESHOLD, WEIGHT, masks
from jaxmerge.operators.task_vector import LAMBDA


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    total, found = masks(tile, params)
    votes = jnp.zeros((), jnp.float32)
    for mask in found:
        votes = votes + mask
    return depart(tile.base, rounded(jnp.where(votes >= params["consensus"], total, 0) * params["lambda"]))


OPERATOR = Operator(
    "consensus_ta",
    "The sum of the task vectors in the elements that matter to several models; those of one or of none are left out.",
    apply,
    (
        WEIGHT,
        THRESHOLD,
        Parameter("consensus", "to how many models an element must matter", 2, kind="integer", low=0),
        LAMBDA,
    ),
    needs_base=True,
    paper=PAPER,
)
