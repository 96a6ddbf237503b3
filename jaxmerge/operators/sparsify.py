"""Trims of a task vector: none, by magnitude (TIES), at random (DARE).

Each is a pair like an operator's: `prepare` makes tables on the grid of densities that will be asked, `[K,
G]`, and `apply` looks a density up in them (the nearest grid point) and trims elementwise. A density of 1 or
more leaves a task vector as it is, a density of 0 or less leaves nothing.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.errors import CheckpointError
from jaxmerge.kernels import exact_sum, mask_field, selection
from jaxmerge.operators.arithmetic import widened
from jaxmerge.operators.interface import Params, Prepared, Request, Sources, Stats, Tile, nothing

CHUNK = 1 << 16  # elements that are worked on while they stay in the cache
VANISHING = 1e-7  # L1 norms below it are not rescaled


@dataclass(frozen=True)
class Sparsifier:
    """`apply(delta, i, tile, stats, params)` trims the task vector of source i; its shape does not change."""

    prepare: Callable[[Sources, Request], Prepared]
    apply: Callable[[Array, int, Tile, Stats, Params], Array]


def magnitudes(sources: Sources, request: Request) -> Iterator[tuple[np.ndarray, float]]:
    """`|W_i - W_b|` of one source after another, float32, flat, and the largest of them."""
    assert sources.base is not None
    base = widened(sources.base.reshape(-1))
    for i, expert in enumerate(sources.experts):
        size = widened(expert.reshape(-1)) - base
        np.abs(size, out=size)
        largest = float(size.max(initial=0.0))
        if not math.isfinite(largest):
            raise CheckpointError(
                f"tensor {request.tensor}: source {i + 1} or the base holds NaN or infinite values"
            )
        yield size, largest


def slices(size: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def padded(rows: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    """Rows of different lengths as one array, each filled up with its last value."""
    width = max(map(len, rows))
    return np.stack([np.pad(np.asarray(row, dtype), (0, width - len(row)), mode="edge") for row in rows])


def restoring(sums: np.ndarray) -> np.ndarray:
    """What restores the L1 norm of a trimmed task vector, float32 `[G]`; 1 where either norm vanishes.

    sums: float64 `[G + 1]`, the kept norms and, last, the norm before the trim.
    """
    kept, whole = sums[:-1], sums[-1]
    vanishing = (kept < VANISHING) | (whole < VANISHING)
    return np.where(vanishing, 1.0, whole / np.where(vanishing, 1.0, kept)).astype(np.float32)


def at(density: Array, name: str, i: int, stats: Stats) -> Array:
    """The entry of table `name` for source i at the grid point nearest to a density."""
    nearest = jnp.argmin(jnp.abs(stats["density"][i] - density[i]))
    return jnp.asarray(stats[name])[i, nearest]


def rescaled(delta: Array, i: int, stats: Stats, params: Params) -> Array:
    ratio = at(params["density"], "ratio", i, stats)
    return delta * jnp.where(params["rescale"] != 0, ratio, 1.0)


def prepare_magnitude(sources: Sources, request: Request) -> Prepared:
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
        passed = selection.Places(threshold[::-1].view(np.uint32))  # the thresholds fall as densities rise
        bits = size.view(np.uint32)
        chunks = ((size[cut], len(grid) - passed(bits[cut])) for cut in slices(size.size, CHUNK))
        thresholds.append(threshold)
        ratios.append(restoring(exact_sum.nested_sums(chunks, largest, len(grid))))
    return Prepared(
        {
            "density": padded(request.grid["density"], np.float32),
            "threshold": padded(thresholds, np.float32),
            "ratio": padded(ratios, np.float32),
        }
    )


def trim_magnitude(delta: Array, i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """Keeps every element of at least the threshold, so more than k where magnitudes at the cut are equal."""
    threshold = at(params["density"], "threshold", i, stats)
    return jnp.where(jnp.abs(delta) >= threshold, rescaled(delta, i, stats, params), 0)


def prepare_random(sources: Sources, request: Request) -> Prepared:
    """Mask keys uint32 `[K, 2]`; thresholds of the draws (uint32) and ratios that restore the L1 norm
    (float32), `[K, G]` on the density grid. Recorded masks become the field "mask", and are not used at a
    density of 1.
    """
    shape = sources.experts[0].shape
    keys, below, ratios, masks = [], [], [], []
    for i, ((size, largest), grid) in enumerate(
        zip(magnitudes(sources, request), request.grid["density"], strict=True)
    ):
        keys.append(mask_field.mask_key(request.seed, i, request.tensor))
        below.append(np.array([mask_field.keep_below(density) for density in grid], np.uint32))
        if request.masks is not None:
            masks.append((np.asarray(request.masks[i]) != 0) | (grid[0] >= 1))
            chunks = recorded(size, masks[i].reshape(-1), len(grid))
        else:
            chunks = drawn(size.reshape(-1, shape[-1]) if size.size else size, keys[i], below[i])
        ratios.append(restoring(exact_sum.nested_sums(chunks, largest, len(grid))))
    stats = {
        "density": padded(request.grid["density"], np.float32),
        "key": np.stack(keys),
        "below": padded(below, np.uint32),
        "ratio": padded(ratios, np.float32),
    }
    return Prepared(stats, {"mask": tuple(masks)} if masks else {})


def recorded(size: np.ndarray, kept: np.ndarray, grid: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of flat magnitudes with the smallest grid point that keeps each element: the first, or none."""
    return ((size[cut], np.where(kept[cut], 0, grid)) for cut in slices(size.size, CHUNK))


def drawn(size: np.ndarray, key: np.ndarray, below: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of magnitudes `[rows, columns]` with the smallest grid point at which each element's draw keeps
    it.
    """
    place = selection.Places(below, mask_field.BITS)
    for cut in slices(len(size), max(1, CHUNK // max(1, size.shape[-1]))):
        rows = np.arange(cut.start, cut.stop, dtype=np.uint32)
        draws = mask_field.draw(mask_field.field(key, rows, size.shape[-1]))
        yield size[cut].reshape(-1), place(draws.reshape(-1))


def trim_random(delta: Array, i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """Keeps the elements whose draw of the mask field lies below the density, or those of a recorded mask."""
    if "mask" in tile.fields:
        kept = tile.fields["mask"][i]
    else:
        words = mask_field.field(stats["key"][i], tile.rows, delta.shape[-1])
        kept = mask_field.keep(words, at(params["density"], "below", i, stats))
    return jnp.where(kept, rescaled(delta, i, stats, params), 0)


NONE = Sparsifier(nothing, lambda delta, i, tile, stats, params: delta)
MAGNITUDE = Sparsifier(prepare_magnitude, trim_magnitude)
RANDOM = Sparsifier(prepare_random, trim_random)
