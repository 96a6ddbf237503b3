"""DARE's trim: elements are dropped at random, each with the same probability."""

from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.kernels import exact_sum, mask_field, selection
from jaxmerge.operators.interface import Parameter, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.trims.trim import (
    CHUNK,
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

PUBLISHED = Parameter(
    "published",
    "rescale as the paper does, by one over the probability of being kept, in place of restoring the L1 norm",
    False,
    kind="flag",
)


def prepare(sources: Sources, request: Request) -> Prepared:
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
            masks.append((np.reshape(request.masks[i], shape) != 0) | (grid[0] >= 1))
            chunks = recorded(size, masks[i].reshape(-1), len(grid))
        else:
            chunks = drawn(size.reshape(-1, shape[-1]) if size.size else size, keys[i], below[i])
        if not is_wanted(request, "rescale"):
            ratios.append(np.ones(len(grid)))
            continue
        *kept, whole = exact_sum.nested_sums(chunks, largest, len(grid))
        ratios.append(restoring(np.array(kept), whole))
    stats = {
        "density": padded(request.grid["density"]),
        "key": np.stack(keys),
        "below": padded(below, np.uint32),
        "ratio": padded(ratios),
    }
    return Prepared(stats, {"mask": tuple(masks)} if masks else {})


def recorded(size: np.ndarray, kept: np.ndarray, grid: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of flat magnitudes with the smallest grid point that keeps each element: the first, or none."""
    return ((size[cut], np.where(kept[cut], 0, grid)) for cut in slices(size.size))


def drawn(size: np.ndarray, key: np.ndarray, below: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of magnitudes `[rows, columns]` with the smallest grid point at which each element's draw keeps
    it.
    """
    place = selection.Places(below, mask_field.BITS)
    for cut in slices(len(size), max(1, CHUNK // max(1, size.shape[-1]))):
        rows = np.arange(cut.start, cut.stop, dtype=np.uint32)
        draws = mask_field.draw(mask_field.field(key, rows, size.shape[-1]))
        yield size[cut].reshape(-1), place(draws.reshape(-1))


def ratio(i: int, stats: Stats, params: Params) -> Array:
    """What the elements of source i that are kept are multiplied with, if they are rescaled."""
    probability = at("density", i, stats, params, "density")
    expected = 1 / jnp.where(probability > 0, probability, 1.0)
    return jnp.where(params["published"] != 0, expected, at("ratio", i, stats, params, "density"))


def trim(delta: Array, i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """Keeps the elements whose draw of the mask field lies below the density, or those of a recorded mask."""
    if "mask" in tile.fields:
        kept = tile.fields["mask"][i]
    else:
        words = mask_field.field(stats["key"][i], tile.rows, delta.shape[-1])
        kept = mask_field.keep(words, at("below", i, stats, params, "density"))
    return jnp.where(kept, rescaled(delta, ratio(i, stats, params), params), 0)


RANDOM = Trim(prepare, trim, (density(), PUBLISHED))
