"""TSV-Merge: the largest singular directions of every task vector, made orthogonal to those of the others.

The merge is `sum_i w_i U_i S_i V_i`: U_i and V_i do not depend on the weights, so the parts are prepared once.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.arithmetic import depart, rounded
from jaxmerge.operators.interface import Operator, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.tall_mask import WEIGHT
from jaxmerge.operators.task_matrices import directions, orthogonal, parts_of, shares
from jaxmerge.operators.task_vector import SCALE


@jax.jit
def parts(deltas: Array) -> Array:
    """What each task vector adds at weight 1, `[K, m, n]`: its r / K largest directions, decorrelated."""
    count, m, n = deltas.shape
    kept = max(1, min(m, n) // count)
    u, s, v = directions(deltas)
    left = orthogonal(jnp.moveaxis(u[:, :, :kept], 0, 1).reshape(m, count * kept)).reshape(m, count, kept)
    right = orthogonal(v[:, :kept].reshape(count * kept, n)).reshape(count, kept, n)
    return jnp.einsum("mik,ikn->imn", left * s[:, :kept], right)


def prepare(sources: Sources, request: Request) -> Prepared:
    return parts_of(sources, request, parts, shares)


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    weights = jnp.asarray(params["weight"], jnp.float32)
    mix = jnp.zeros((), jnp.float32)
    for i, part in enumerate(tile.fields["part"]):
        mix = mix + rounded(weights[i] * part)
    return depart(tile.base, rounded(mix * params["lambda"]))


OPERATOR = Operator(
    "tsv",
    "The largest singular directions of each linear layer's task vectors, decorrelated and summed; other tensors "
    "averaged.",
    apply,
    (WEIGHT, SCALE),
    prepare,
    needs_base=True,
    field_bytes=4,
    paper="Gargiulo et al. 2024, Task Singular Vectors, arXiv:2412.00081",
)
