"""Karcher: the mean of the models' directions on the sphere, at the mean of their lengths.

The iteration towards the mean only ever makes linear combinations of the models, so it runs on their Gram matrix, in
float64, in `prepare`.
"""

import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import rounded
from jaxmerge.operators.gram import gram, norms_of
from jaxmerge.operators.grid import nearest
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


def mean_direction(cosines: np.ndarray, iterations: int, tolerance: float) -> np.ndarray:
    """The Karcher mean of N unit vectors as coefficients `[N]` of them. cosines: their inner products `[N, N]`."""
    count = len(cosines)

    def length(coefficients: np.ndarray) -> float:
        return float(np.sqrt(max(coefficients @ cosines @ coefficients, 0.0)))

    mean = np.full(count, 1.0 / count)
    norm = length(mean)
    mean = np.eye(count)[0] if norm < tolerance else mean / norm
    for _ in range(iterations):
        along = np.clip(cosines @ mean, -1.0, 1.0)
        angles = np.arccos(along)
        turns = angles >= tolerance
        sines = np.sin(angles)
        # An antipode has no direction towards it.
        pull = np.where(turns & (sines > 0), angles / np.where(sines > 0, sines, 1.0), 0.0) / count
        tangent = pull - (pull @ along) * mean
        step = length(tangent)
        if step < tolerance:
            break
        mean = np.cos(step) * mean + np.sin(step) / step * tangent
        norm = length(mean)
        if norm > tolerance:
            mean = mean / norm
    return mean


def prepare(sources: Sources, request: Request) -> Prepared:
    """Each source's coefficient in the mean, float32 `[I, T, K]` on the grid of max_iter x tol."""
    products = gram(sources.experts)
    norms = norms_of(products)
    iterations, tolerances = request.grid["max_iter"][0], request.grid["tol"][0]
    coefficients = np.zeros((len(iterations), len(tolerances), len(norms)))
    for t, tolerance in enumerate(tolerances):
        long = norms > tolerance
        if not long.any():
            continue
        cosines = products[np.ix_(long, long)] / norms[long] / norms[long][:, None]
        for i, most in enumerate(iterations):
            mean = mean_direction(cosines, int(most), float(tolerance))
            coefficients[i, t, long] = norms.mean() * mean / norms[long]
    return Prepared(
        {
            "coefficients": coefficients.astype(np.float32),
            "max_iter": iterations.astype(np.float32),
            "tol": tolerances.astype(np.float32),
        }
    )


def coefficients(stats: Stats, params: Params, count: int, based: bool) -> Coefficients:
    by_tolerance = nearest(stats["coefficients"], stats["max_iter"], params["max_iter"])
    return 0.0, nearest(by_tolerance, stats["tol"], params["tol"])


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    _, table = coefficients(stats, params, len(tile.sources), False)
    mix = rounded(table[0] * tile.sources[0])
    for i, source in enumerate(tile.sources[1:], 1):
        mix = mix + rounded(table[i] * source)
    return mix


OPERATOR = Operator(
    "karcher",
    "The mean of the models' directions on the sphere, at their mean length.",
    apply,
    (
        Parameter("max_iter", "most steps towards the mean", 10, kind="integer", low=1, high=1000, gridded=True),
        Parameter("tol", "steps, angles and norms below it count as zero", 1e-5, low=1e-12, high=1.0, gridded=True),
    ),
    prepare,
    coefficients=coefficients,
    paper="Karcher 1977, Riemannian center of mass and mollifier smoothing",
)
