"""Slerp: along the arc between the base and one other model.

Both tensors are flattened. The result is a linear combination whose coefficients follow from the angle
between them, so that `prepare` finds the angle and `apply` is elementwise.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arc import arc, shares
from jaxmerge.operators.arithmetic import rounded
from jaxmerge.operators.gram import gram, norms_of
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

STRAIGHT = 0.9995  # |cosine| above which the arc is taken as a line, antipodal tensors too


def prepare(sources: Sources, request: Request) -> Prepared:
    """The arc between the two tensors, see `arc`."""
    assert sources.base is not None
    products = gram([sources.base, sources.experts[0]])
    norms = norms_of(products)
    norms = np.where(norms > 1e-8, norms, 1.0)
    cosine = products[0, 1] / norms[0] / norms[1]
    return Prepared(arc(cosine, np.abs(cosine) > STRAIGHT))


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    of_base, of_other = shares(params["t"], stats["angle"], stats["sine"], stats["straight"])
    return rounded(of_base * tile.base) + rounded(of_other * tile.sources[0])


def coefficients(stats: Stats, params: Params, count: int, based: bool) -> Coefficients:
    of_base, of_other = shares(params["t"], stats["angle"], stats["sine"], stats["straight"])
    return of_base + of_other, jnp.stack([of_other])


OPERATOR = Operator(
    "slerp",
    "Spherical interpolation between the base and one other model.",
    apply,
    (Parameter("t", "0 is the base, 1 the other model", None, search=(0.0, 1.0)),),
    prepare,
    needs_base=True,
    max_sources=1,
    lacking="copy_single",
    coefficients=coefficients,
    paper="Shoemake 1985, Animating Rotation with Quaternion Curves",
)
