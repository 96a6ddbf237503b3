"""Iso-C: the sum of the task vectors with all its singular values made equal."""

import jax
from jax import Array

from jaxmerge.operators.interface import Operator, Prepared, Request, Sources
from jaxmerge.operators.task_matrices import average, directions, even, parts_of, scaled
from jaxmerge.operators.task_vector import SCALE

PAPER = "Marczak et al. 2025, No Task Left Behind, arXiv:2502.04959"


@jax.jit
def isotropic(deltas: Array) -> Array:
    u, s, v = directions(deltas.sum(axis=0))
    return ((u * even(s)) @ v)[None]


def prepare(sources: Sources, request: Request) -> Prepared:
    return parts_of(sources, request, isotropic, average)


OPERATOR = Operator(
    "iso_c",
    "The sum of each linear layer's task vectors with its singular values made equal to their mean; other tensors "
    "averaged.",
    scaled,
    (SCALE,),
    prepare,
    needs_base=True,
    shared_field_bytes=4,
    paper=PAPER,
)
