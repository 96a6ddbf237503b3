"""TIES's trim: the largest elements stay."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.kernels import exact_sum, selection
from jaxmerge.operators.interface import Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.trims.trim import (
    Trim,
    at,
    density,
    is_wanted,
    magnitudes,
    padded,
    rescaled,
    restoring,
    slices,
)


def prepare(sources: Sources, request: Request) -> Prepared:
    """Thresholds and ratios that restore the L1 norm, float32 `[K, G]` on the density grid.

    The threshold is the k-th largest magnitude, k = max(1, int(density * n)).
    """
    thresholds, ratios = [], []
    for (size, largest), grid in zip(magnitudes(sources, request), request.grid["density"], strict=True):
        threshold = np.where(grid >= 1, 0, np.inf).astype(np.float32)
        trims = (grid > 0) & (grid < 1)
        if size.size and trims.any():
            counts = np.maximum(1, (grid[trims] * size.size).astype(np.int64))
            threshold[trims] = selection.smallest_kept(size, counts)
        thresholds.append(threshold)
        if not is_wanted(request, "rescale"):
            ratios.append(np.ones(len(grid)))
            continue
        passed = selection.Places(threshold[::-1].view(np.uint32))  # the thresholds fall as densities rise
        bits = size.view(np.uint32)
        chunks = ((size[cut], len(grid) - passed(bits[cut])) for cut in slices(size.size))
        *kept, whole = exact_sum.nested_sums(chunks, largest, len(grid))
        ratios.append(restoring(np.array(kept), whole))
    return Prepared(
        {"density": padded(request.grid["density"]), "threshold": padded(thresholds), "ratio": padded(ratios)}
    )


def trim(delta: Array, i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """Keeps every element of at least the threshold, so more than k where magnitudes at the cut are equal."""
    threshold = at("threshold", i, stats, params, "density")
    return jnp.where(
        jnp.abs(delta) >= threshold, rescaled(delta, at("ratio", i, stats, params, "density"), params), 0
    )


MAGNITUDE = Trim(prepare, trim, (density(),))
