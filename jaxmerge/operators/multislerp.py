"""Multislerp: the weighted mean of directions, at the weighted mean of the lengths.

mergekit projects the directions into the tangent space at their normalised weighted mean, averages them there with
the same weights and goes along the result. That tangent vector is always zero (it is the mean's own part
perpendicular to the mean), so what it computes is the mean direction itself, and so do we.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import depart, divided, rounded
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

NOISE = 1e-14  # eigenvalues of cosines below it: directions apart by less than float32 tells


def prepare(sources: Sources, request: Request) -> Prepared:
    """Norms, float32 `[K]`, and the directions' coordinates in an orthonormal basis of their span, `[K, K]`.

    From coordinates the mean's length is found to float32's precision also where the directions nearly cancel.
    """
    products = gram(sources.experts, sources.base)
    norms = norms_of(products)
    lengths = np.where(norms > 0, norms, 1.0)
    values, axes = np.linalg.eigh(products / lengths / lengths[:, None])
    coordinates = axes * np.sqrt(np.where(values > NOISE, values, 0.0))
    return Prepared({"norm": norms.astype(np.float32), "coordinates": coordinates.astype(np.float32)})


def taken(stats: Stats, params: Params, count: int) -> tuple[list[Array], Array]:
    """What is taken of each of at least two tensors, and whether their mean direction vanishes."""
    weights, norms, eps = jnp.asarray(params["weight"], jnp.float32), stats["norm"], params["eps"]
    total = weights[0]
    for i in range(1, count):
        total = total + weights[i]
    scale = jnp.where(params["normalize_weights"] != 0, total, 1.0)
    own = [rounded(divided(weights[i], scale)) for i in range(count)]
    longer = [norms[i] + eps for i in range(count)]
    # Rounded, for compilers make one quotient of two and of a root below one.
    square, length = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.float32)
    for axis in range(count):
        along = jnp.zeros((), jnp.float32)
        for i in range(count):
            along = along + rounded(own[i] * divided(rounded(norms[i] * stats["coordinates"][i, axis]), longer[i]))
        square = square + rounded(along * along)
    for i in range(count):
        length = length + rounded(own[i] * norms[i])
    mean = rounded(jnp.sqrt(square))
    cancels = mean < eps
    stretch = divided(length, jnp.where(cancels, 1.0, mean))
    shares = [jnp.where(cancels, own[i], rounded(divided(own[i], longer[i]) * stretch)) for i in range(count)]
    return shares, cancels & (jnp.max(norms) > eps)


def coefficients(stats: Stats, params: Params, count: int, based: bool) -> Coefficients:
    if count == 1:
        return float(based), jnp.ones(1, jnp.float32)
    found, undefined = taken(stats, params, count)
    shares = jnp.where(undefined & (count > 2), jnp.nan, jnp.stack(found))
    return float(based), shares


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    count = len(tile.sources)
    if count == 1:
        return tile.sources[0]
    shares, undefined = taken(stats, params, count)
    mix = jnp.zeros((), jnp.float32)
    for share, source in zip(shares, tile.sources, strict=True):
        mix = mix + rounded(share * (source if tile.base is None else source - tile.base))
    if count > 2:
        mix = jnp.where(undefined, jnp.nan, mix)
    return mix if tile.base is None else depart(tile.base, mix)


def check(params: Mapping[str, Any]) -> str | None:
    if params["normalize_weights"] and sum(params["weight"]) == 0:
        return "the weights sum to zero: change one of them or set normalize_weights: false"
    return None


OPERATOR = Operator(
    "multislerp",
    "The weighted mean direction of several models, or of their task vectors where a base is declared, at their mean "
    "length.",
    apply,
    (
        Parameter("weight", "weight of the source", None, search=(0.0, 1.0), per_source=True),
        Parameter("normalize_weights", "divide the weights by their sum", True, kind="flag"),
        Parameter("eps", "what is added to norms; a mean direction shorter than it vanishes", 1e-8, low=0.0),
    ),
    prepare,
    optional_base=True,
    check=check,
    coefficients=coefficients,
    undefined="the weighted directions of more than two models cancel out and leave no mean; change the weights",
    paper="Goddard et al. 2024, Arcee's MergeKit, arXiv:2403.13257",
)
