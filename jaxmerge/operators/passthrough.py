"""Passthrough: one source as it is, or scaled."""

from jax import Array

from jaxmerge.operators.arithmetic import rounded
from jaxmerge.operators.interface import Coefficients, Operator, Parameter, Params, Stats, Tile


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    return rounded(params["scale"][0] * tile.sources[0])


def coefficients(stats: Stats, params: Params, count: int, based: bool) -> Coefficients:
    return 0.0, params["scale"]


OPERATOR = Operator(
    "passthrough",
    "One model as it is; with slices, layers of several models one after another.",
    apply,
    (Parameter("scale", "factor of the tensor", 1.0, per_source=True),),
    max_sources=1,
    coefficients=coefficients,
)
