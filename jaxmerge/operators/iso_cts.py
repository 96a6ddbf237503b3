"""Iso-CTS: Iso-C whose smallest directions give way to those that each task has of its own."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.interface import Operator, Parameter, Prepared, Request, Sources
from jaxmerge.operators.iso_c import PAPER
from jaxmerge.operators.task_matrices import average, directions, even, norms, orthogonal, parts_of, scaled
from jaxmerge.operators.task_vector import SCALE


def divided_rank(rank: int, tasks: int, common: float) -> tuple[int, int]:
    """How many directions are common, and how many each task has of its own."""
    own = min(round((rank - int(rank * common)) / tasks), rank // tasks)
    return rank - own * tasks, own


@partial(jax.jit, static_argnums=1)
def isotropic(deltas: Array, common: float) -> Array:
    count, m, n = deltas.shape
    shared, own = divided_rank(min(m, n), count, common)
    u, s, v = (part[..., :shared] for part in _columns(*directions(deltas.sum(axis=0))))
    apart = directions(deltas - u @ (u.T @ deltas), norms(deltas))
    u_own, s_own, v_own = (part[..., :own] for part in _columns(*apart))
    left = jnp.concatenate([jnp.moveaxis(u_own, 0, 1).reshape(m, -1), u], axis=1)
    right = jnp.concatenate([jnp.moveaxis(v_own, 0, 1).reshape(n, -1), v], axis=1)
    values = jnp.concatenate([s_own.reshape(-1), s])
    return ((orthogonal(left) * even(values)) @ orthogonal(right).T)[None]


def _columns(u: Array, s: Array, v: Array) -> tuple[Array, Array, Array]:
    return u, s, jnp.swapaxes(v, -1, -2)


def prepare(sources: Sources, request: Request) -> Prepared:
    common = float(request.grid["common"][0][0])
    return parts_of(sources, request, lambda deltas: isotropic(deltas, common), average)


OPERATOR = Operator(
    "iso_cts",
    "As iso_c, its smallest singular directions replaced by the largest that each model has apart from the others.",
    scaled,
    (
        Parameter(
            "common",
            "share of the directions that are those of the sum; each model adds as many of the others",
            0.8,
            low=0.0,
            high=1.0,
            gridded=True,
            fixed=True,
        ),
        SCALE,
    ),
    prepare,
    needs_base=True,
    shared_field_bytes=4,
    paper=PAPER,
)
