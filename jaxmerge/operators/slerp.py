"""Slerp: along the arc between the base and one other model.

Both tensors are flattened. The result is a linear combination whose coefficients follow from the angle
between them, so that `prepare` finds the angle and `apply` is elementwise.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import divided, rounded, sine
from jaxmerge.operators.gram import gram
from jaxmerge.operators.interface import Operator, Parameter, Params, Prepared, Request, Sources, Stats, Tile

STRAIGHT = 0.9995  # |cosine| above which the arc is taken as a line, antipodal tensors too


def prepare(sources: Sources, request: Request) -> Prepared:
    """The angle between the two tensors (float32, radians), and whether they are so aligned that the arc is a
    line.
    """
    assert sources.base is not None
    products = gram([sources.base, sources.experts[0]])
    norms = np.sqrt(np.diag(products))
    norms = np.where(norms > 1e-8, norms, 1.0)
    cosine = np.clip(products[0, 1] / norms[0] / norms[1], -1.0, 1.0)
    straight = abs(cosine) > STRAIGHT
    return Prepared(
        {"angle": np.asarray(np.arccos(cosine), np.float32), "straight": np.asarray(straight, np.float32)}
    )


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    t, angle, straight = params["t"], stats["angle"], stats["straight"] != 0
    whole = jnp.where(straight, 1.0, sine(angle))
    of_base = jnp.where(straight, 1 - t, divided(sine((1 - t) * angle), whole))
    of_other = jnp.where(straight, t, divided(sine(t * angle), whole))
    return rounded(of_base * tile.base) + rounded(of_other * tile.sources[0])


OPERATOR = Operator(
    "slerp",
    "Spherical interpolation between the base and one other model.",
    apply,
    (Parameter("t", "0 is the base, 1 the other model", None, search=(0.0, 1.0)),),
    prepare,
    needs_base=True,
    max_sources=1,
    copies_singletons=True,
    paper="Shoemake 1985, Animating Rotation with Quaternion Curves",
)
