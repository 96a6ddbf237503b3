"""Breadcrumbs' trim: the smallest elements go, and so do the largest."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.kernels import exact_sum, selection
from jaxmerge.operators.interface import Parameter, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.trims.trim import (
    Trim,
    at,
    density,
    is_wanted,
    magnitudes,
    rescaled,
    restoring,
    slices,
)

GAMMA = Parameter(
    "gamma",
    "share of the source's task vector, its largest elements, that is cut as outliers",
    0.01,
    low=0.0,
    high=1.0,
    search=(0.0, 0.05),
    per_source=True,
    gridded=True,
    cells=8,
)
PUBLISHED = Parameter(
    "published",
    "the paper's rule: the outliers go whatever the density is (mergekit keeps some of them where density + gamma "
    "exceeds 1, all at density 1)",
    False,
    kind="flag",
    gridded=True,
)


def bounds(
    size: np.ndarray, densities: np.ndarray, gammas: np.ndarray, published: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest magnitude that is kept, float32 `[G, H]`; infinite and -1 where nothing is.

    Of n ascending magnitudes, `[bottom, bottom + kept)` are kept: kept = int(density n), and bottom leaves
    int(gamma n) above it where that is possible.
    """
    n = size.size
    kept = np.minimum(densities * n, n).astype(np.int64)[:, None]
    above = (gammas * n).astype(np.int64)[None]
    bottom = np.maximum(0, n - kept - above)
    end = np.broadcast_to(np.minimum(bottom + kept, n - above) if published else bottom + kept, bottom.shape)
    whole = np.zeros_like(bottom, bool) if published else (densities[:, None] >= 1) & (bottom >= 0)
    some = (end > bottom) & ~whole
    low = np.where(whole, 0, np.inf).astype(np.float32)
    high = np.where(whole, np.inf, -1).astype(np.float32)
    if some.any():
        counts = n - np.stack([bottom[some], end[some] - 1])
        distinct, place = np.unique(counts, return_inverse=True)
        low[some], high[some] = selection.smallest_kept(size, distinct)[place.reshape(counts.shape)]
    return low, high


def prepare(sources: Sources, request: Request) -> Prepared:
    """Bounds of the kept magnitudes and ratios that restore the L1 norm, float32 `[K, G, H]` on the density x
    gamma grid. In a search both grids are coarse (`Parameter.cells`): one merge's table has one entry, that of
    densities in [0.1, 1] and gammas in [0, 0.05] 58 x 13.
    """
    lows, highs, ratios = [], [], []
    published = is_wanted(request, "published")
    for i, (size, largest) in enumerate(magnitudes(sources, request)):
        low, high = bounds(size, request.grid["density"][i], request.grid["gamma"][i], published)
        lows.append(low)
        highs.append(high)
        ratios.append(restore(size, largest, low, high) if is_wanted(request, "rescale") else np.ones_like(low))
    grids = {name: np.stack(request.grid[name]).astype(np.float32) for name in ("density", "gamma")}
    return Prepared(grids | {"low": np.stack(lows), "high": np.stack(highs), "ratio": np.stack(ratios)})


def restore(size: np.ndarray, largest: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The ratios of one source, from the L1 norms of what is at least `low` and of what is above `high`."""
    nothing = high < low
    first = low.view(np.uint32).astype(np.int64)
    behind = np.where(nothing, first, np.abs(high).view(np.uint32).astype(np.int64) + 1)
    edges = np.unique([first, behind])
    passed = selection.Places(edges)
    bits = size.view(np.uint32)
    chunks = ((size[cut], len(edges) - passed(bits[cut])) for cut in slices(size.size))
    *nested, whole = exact_sum.nested_sums(chunks, largest, len(edges))
    from_edge = np.array(nested)[::-1]
    kept = from_edge[np.searchsorted(edges, first)] - from_edge[np.searchsorted(edges, behind)]
    return restoring(kept, whole)


def trim(delta: Array, i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """Keeps all of the magnitudes at either bound, so more than asked where they tie."""
    low, high, ratio = (at(name, i, stats, params, "density", "gamma") for name in ("low", "high", "ratio"))
    size = jnp.abs(delta)
    return jnp.where((size >= low) & (size <= high), rescaled(delta, ratio, params), 0)


OUTLIERS = Trim(prepare, trim, (density(cells=8), GAMMA, PUBLISHED))
