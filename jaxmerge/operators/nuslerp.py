"""NuSlerp: along the arc between two models, or between their task vectors where there is a base.

The whole tensors are two vectors (`nuslerp_flatten`), or their vectors along the last axis are, or those along the
first (`nuslerp_row_wise`). Each pair has an arc of its own; `prepare` finds them, and `apply` is elementwise.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arc import arc, shares
from jaxmerge.operators.arithmetic import depart, divided, rounded
from jaxmerge.operators.gram import gram, norms_of, row_gram
from jaxmerge.operators.interface import (
    Coefficients,
    Operator,
    Parameter,
    Params,
    Prepared,
    Request,
    Sources,
    Stats,
    Tile,
)

SHORTEST = 1e-7  # shorter vectors are taken as of this norm
# Squared sine up to which the arc is taken as a line. In float32, which the tensors were rounded to, smaller angles
# are noise, and the way between antipodal tensors is divided by their sine.
STRAIGHT = 1e-12
NAMES = ("angle", "sine", "straight")


def arcs(products: np.ndarray) -> dict[str, np.ndarray]:
    """products: float64 `[..., 2, 2]`."""
    norms = np.maximum(norms_of(products), SHORTEST)
    cosine = np.clip(products[..., 0, 1] / norms[..., 0] / norms[..., 1], -1.0, 1.0)
    return arc(cosine, 1 - np.square(cosine) <= STRAIGHT)


def prepare(sources: Sources, request: Request) -> Prepared:
    """Of flat tensors the arc; along the last axis the arc of each row as fields of one column; along the first the
    arc of each column, `[rows, columns]`: of more than two axes, row n of the tensor has the arcs of row n modulo rows.
    """
    experts, base = sources.experts, sources.base
    shape = experts[0].shape
    if request.grid["nuslerp_flatten"][0][0]:
        return Prepared(arcs(gram(experts, base)))
    if request.grid["nuslerp_row_wise"][0][0]:
        found = arcs(row_gram(experts, base, axis=0))
        table = (math.prod(shape[1:-1]), shape[-1]) if len(shape) > 1 else (1, 1)
        return Prepared({f"column_{name}": found[name].reshape(table) for name in NAMES})
    return Prepared(fields={name: (array[..., None],) for name, array in arcs(row_gram(experts, base)).items()})


def place_between(params: Params) -> Array:
    """t in `arc.shares`."""
    weights = jnp.asarray(params["weight"], jnp.float32)
    total = weights[0] + weights[1]
    vanishes = jnp.abs(total) < 1e-6
    return jnp.where(vanishes, 0.5, divided(weights[1], jnp.where(vanishes, 1.0, total)))


def coefficients(stats: Stats, params: Params, count: int, based: bool) -> Coefficients:
    first, second = shares(place_between(params), *(stats[name] for name in NAMES))
    return float(based), jnp.stack([first, second])


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    t = place_between(params)
    if "angle" in stats:
        angle, whole, straight = (stats[name] for name in NAMES)
    elif tile.fields:
        angle, whole, straight = (tile.fields[name][0] for name in NAMES)
    else:
        tables = [stats[f"column_{name}"] for name in NAMES]
        angle, whole, straight = (x[tile.rows % x.shape[0]] if x.shape[0] > 1 else x[0] for x in tables)
    first, second = shares(t, angle, whole, straight)
    if tile.base is None:
        return rounded(first * tile.sources[0]) + rounded(second * tile.sources[1])
    deltas = [source - tile.base for source in tile.sources]
    return depart(tile.base, rounded(first * deltas[0]) + rounded(second * deltas[1]))


OPERATOR = Operator(
    "nuslerp",
    "Spherical interpolation between two models, or between their task vectors where a base is declared.",
    apply,
    (
        Parameter("weight", "how far towards this model", None, search=(0.0, 1.0), per_source=True),
        Parameter(
            "nuslerp_flatten",
            "the whole tensors are the two vectors, not their rows",
            True,
            kind="flag",
            gridded=True,
        ),
        Parameter(
            "nuslerp_row_wise",
            "without nuslerp_flatten: the vectors run along the first axis, not the last",
            False,
            kind="flag",
            gridded=True,
        ),
    ),
    prepare,
    optional_base=True,
    min_sources=2,
    max_sources=2,
    lacking="copy_single",
    coefficients=coefficients,
    rows_apart=("nuslerp_flatten", False),
    paper="Shoemake 1985, Animating Rotation with Quaternion Curves",
)
