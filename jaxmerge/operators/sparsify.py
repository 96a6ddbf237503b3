"""Trims of a task vector: none, by magnitude (TIES), at random (DARE).

Each is a pair like an operator's: `prepare` makes tables on the grid of densities that will be asked, `[K,
G]`, and `apply` looks a density up in them (the nearest grid point) and trims elementwise. A density of 1 or
more leaves a task vector as it is, a density of 0 or less leaves nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.errors import CheckpointError
from jaxmerge.kernels import exact_sum, mask_field, selection
from jaxmerge.operators.arithmetic import widened
from jaxmerge.operators.interface import Params, Prepared, Request, Sources, Stats, Tile, nothing

VANISHING = 1e-7  # L1 norms below it are not rescaled


@dataclass(frozen=True)
class Sparsifier:
    """`apply(delta, i, tile, stats, params)` trims the task vector of source i; its shape does not change."""

    prepare: Callable[[Sources, Request], Prepared]
    apply: Callable[[Array, int, Tile, Stats, Params], Array]


def magnitudes(sources: Sources, request: Request) -> list[np.ndarray]:
    """`|W_i - W_b|` of every source, float32, whole tensors on the host."""
    assert sources.base is not None
    base = widened(sources.base)
    found = []
    for i, expert in enumerate(sources.experts):
        size = widened(expert) - base
        np.abs(size, out=size)
        if size.size and not np.isfinite(size.max()):
            raise CheckpointError(f"tensor {request.tensor}: source {i + 1} or the base has NaN or infinite values")
        found.append(size)
    return found


def padded(rows: list[np.ndarray], dtype: type) -> np.ndarray:
    """Rows of different lengths as one array, each filled up with its last value."""
    width = max(map(len, rows))
    return np.stack([np.pad(np.asarray(row, dtype), (0, width - len(row)), mode="edge") for row in rows])


def ratios(whole: float, kept: np.ndarray) -> np.ndarray:
    """What restores the L1 norm of a trimmed task vector, float32 `[G]`; 1 where either norm vanishes."""
    vanishing = (kept < VANISHING) | (whole < VANISHING)
    return np.where(vanishing, 1.0, whole / np.where(vanishing, 1.0, kept)).astype(np.float32)


def at(density: Array, name: str, i: int, stats: Stats) -> Array:
    """The entry of table `name` for source i at the grid point nearest to a density."""
    nearest = jnp.argmin(jnp.abs(stats["density"][i] - density[i]))
    return stats[name][i][nearest]


def rescaled(delta: Array, i: int, stats: Stats, params: Params) -> Array:
    ratio = at(params["density"], "ratio", i, stats)
    return delta * jnp.where(params["rescale"] != 0, ratio, 1.0)


def prepare_magnitude(sources: Sources, request: Request) -> Prepared:
    """Thresholds (float32) and ratios that restore the L1 norm on the density grid. k = max(1, int(density *
    n)).
    """
    thresholds, restoring = [], []
    for size, grid in zip(magnitudes(sources, request), request.grid["density"], strict=True):
        threshold = np.where(grid >= 1, 0, np.inf).astype(np.float32)
        trims = (grid > 0) & (grid < 1)
        if size.size and trims.any():
            threshold[trims] = selection.smallest_kept(size, np.maximum(1, (grid[trims] * size.size).astype(np.int64)))
        first_set = len(grid) - np.searchsorted(threshold[::-1], size.ravel(), side="right")
        sums = exact_sum.nested_sums(size, first_set, len(grid))
        thresholds.append(threshold)
        restoring.append(ratios(exact_sum.total(size), sums))
    return Prepared(
        {
            "density": padded(list(request.grid["density"]), np.float32),
            "threshold": padded(thresholds, np.float32),
            "ratio": padded(restoring, np.float32),
        }
    )


def trim_magnitude(delta: Array, i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """Keeps every element of at least the threshold, so more than k where magnitudes at the cut are equal."""
    threshold = at(params["density"], "threshold", i, stats)
    return jnp.where(jnp.abs(delta) >= threshold, rescaled(delta, i, stats, params), 0)


def prepare_random(sources: Sources, request: Request) -> Prepared:
    """Mask keys `[K, 2]`, integer thresholds and ratios on the density grid; recorded masks become a
    field.
    """
    keys, below, restoring, masks = [], [], [], []
    for i, (size, grid) in enumerate(zip(magnitudes(sources, request), request.grid["density"], strict=True)):
        keys.append(mask_field.mask_key(request.seed, i, request.tensor))
        below.append(np.array([mask_field.keep_below(density) for density in grid], np.uint32))
        if request.masks is not None:
            mask = np.where(grid[0] >= 1, 1, np.asarray(request.masks[i], np.uint8)).astype(np.uint8)
            masks.append(mask)
            first_set = np.where(mask.ravel() != 0, 0, len(grid))
        else:
            draws = mask_field.draws(keys[i], size.shape)
            first_set = np.searchsorted(below[i], draws.ravel(), side="right")
        sums = exact_sum.nested_sums(size, first_set, len(grid))
        restoring.append(ratios(exact_sum.total(size), sums))
    stats = {
        "density": padded(list(request.grid["density"]), np.float32),
        "key": np.stack(keys),
        "below": padded(below, np.uint32),
        "ratio": padded(restoring, np.float32),
    }
    return Prepared(stats, {"mask": tuple(masks)} if masks else {})


def trim_random(delta: Array, i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """Keeps the elements whose draw of the mask field lies below the density, or those of a recorded mask."""
    if "mask" in tile.fields:
        kept = tile.fields["mask"][i] != 0
    else:
        words = mask_field.field(stats["key"][i], tile.rows, delta.shape[-1])
        kept = mask_field.keep(words, at(params["density"], "below", i, stats))
    return jnp.where(kept, rescaled(delta, i, stats, params), 0)


NONE = Sparsifier(nothing, lambda delta, i, tile, stats, params: delta)
MAGNITUDE = Sparsifier(prepare_magnitude, trim_magnitude)
RANDOM = Sparsifier(prepare_random, trim_random)
