"""DELLA's trim: elements are dropped at random, the smaller ones of each row with a higher probability.

The probability of being kept rises linearly with an element's rank in its row (the last axis), from density -
epsilon for the smallest magnitude to density + epsilon for the largest. It is compared with the draw as an integer:
`draw < low + floor(slope * rank)`, so that NumPy and XLA agree about every element.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.kernels import exact_sum, mask_field, selection
from jaxmerge.operators.arithmetic import rounded
from jaxmerge.operators.interface import Parameter, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.trims.random import PUBLISHED, recorded
from jaxmerge.operators.trims.trim import (
    CHUNK,
    Trim,
    at,
    density,
    is_wanted,
    magnitudes,
    rescaled,
    restoring,
    slices,
)

ONE = 1 << mask_field.BITS
EPSILON = Parameter(
    "epsilon",
    "how far the probability of being kept rises above the density for the largest element of a row, and falls below "
    "it for the smallest",
    0.15,
    low=0.0,
    high=0.5,
    search=(0.01, 0.15),
    per_source=True,
    gridded=True,
    cells=8,
)


def check(params: Mapping[str, Any]) -> str | None:
    for kept, epsilon in zip(np.ravel(params["density"]), np.ravel(params["epsilon"]), strict=True):
        if 0 < kept < 1 and not (kept - epsilon > 0 and kept + epsilon < 1):
            return (
                f"density {kept:g} with epsilon {epsilon:g} leaves the range of probabilities; make density - epsilon "
                "greater than 0 and density + epsilon less than 1"
            )
    return None


def ranks(size: np.ndarray) -> np.ndarray:
    """Each magnitude's ascending rank in its row, uint16 (uint32 for rows of more than 65536) of the shape of `size`.

    size: float32 `[rows, columns]`, not negative. Of equal magnitudes the first ranks lower.
    """
    rows, columns = size.shape
    found = np.empty(size.shape, np.uint16 if columns <= 1 << 16 else np.uint32)
    order = np.arange(columns, dtype=np.uint64)
    for cut in slices(rows, max(1, CHUNK // max(1, columns))):
        # The column in the low bits makes the sort stable, and is where the rank belongs.
        keys = size[cut].view(np.uint32).astype(np.uint64) << 32 | order
        keys.sort(axis=-1)
        np.put_along_axis(found[cut], (keys & 0xFFFFFFFF).astype(np.intp), order[None].astype(found.dtype), axis=-1)
    return found


def tables(densities: np.ndarray, epsilons: np.ndarray, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """What a draw is compared with at rank 0, int32 `[G, H]`, and how much that rises with each rank, float32 `[H]`.
    The only element of a row has the probability `density`."""
    slope = 2 * epsilons * ONE / (columns - 1) if columns > 1 else np.zeros(len(epsilons))
    least = densities[:, None] - (epsilons[None] if columns > 1 else 0 * epsilons[None])
    low = np.ceil(least * ONE)
    low = np.where(densities[:, None] >= 1, ONE, np.where(densities[:, None] <= 0, -ONE, low))
    return low.astype(np.int32), slope.astype(np.float32)


def prepare(sources: Sources, request: Request) -> Prepared:
    """Mask keys uint32 `[K, 2]`; what the draws are compared with, see `tables`; ratios that restore the L1 norm,
    float32 `[K, G, H]` on the density x epsilon grid. The ranks are a field. Recorded masks become the field "mask",
    and are not used at a density of 1.

    In a search both grids are coarse (`Parameter.cells`): densities in [0.2, 0.8] and epsilons in [0.01, 0.15] make a
    table of 39 x 9. The magnitudes are summed once for each epsilon.
    """
    shape = sources.experts[0].shape
    found: dict[str, list[np.ndarray]] = {name: [] for name in ("key", "low", "slope", "ratio")}
    fields: dict[str, list[np.ndarray]] = {"rank": []}
    for i, (size, largest) in enumerate(magnitudes(sources, request)):
        rows = size.reshape(math.prod(shape[:-1]), shape[-1])
        key = mask_field.mask_key(request.seed, i, request.tensor)
        low, slope = tables(request.grid["density"][i], request.grid["epsilon"][i], shape[-1])
        rank = ranks(rows)
        ratio = np.ones(low.shape, np.float32)
        if request.masks is not None:
            mask = (np.reshape(request.masks[i], shape) != 0) | (request.grid["density"][i][0] >= 1)
            fields.setdefault("mask", []).append(mask)
        if is_wanted(request, "rescale"):
            for e in range(len(slope)):
                if request.masks is not None:
                    chunks = recorded(size, mask.reshape(-1), len(low))
                else:
                    chunks = drawn(rows, rank, key, low[:, e], slope[e])
                *kept, whole = exact_sum.nested_sums(chunks, largest, len(low))
                ratio[:, e] = restoring(np.array(kept), whole)
        for name, array in {"key": key, "low": low, "slope": slope, "ratio": ratio}.items():
            found[name].append(array)
        fields["rank"].append(rank.reshape(shape))
    stats = {name: np.stack(arrays) for name, arrays in found.items()}
    stats |= {name: np.stack(request.grid[name]).astype(np.float32) for name in ("density", "epsilon")}
    return Prepared(stats, {name: tuple(arrays) for name, arrays in fields.items()})


def drawn(
    size: np.ndarray, rank: np.ndarray, key: np.ndarray, low: np.ndarray, slope: np.float32
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Chunks of magnitudes `[rows, columns]` with the smallest density of the grid at which each element's draw keeps
    it. low: int32 `[G]`."""
    # By how much the draw lies below what rank adds may be negative: all is moved up by ONE.
    place = selection.Places(low + ONE, mask_field.BITS + 1)
    for cut in slices(len(size), max(1, CHUNK // max(1, size.shape[-1]))):
        rows = np.arange(cut.start, cut.stop, dtype=np.uint32)
        draws = mask_field.draw(mask_field.field(key, rows, size.shape[-1])).astype(np.int32)
        added = (rank[cut].astype(np.float32) * slope).astype(np.int32)
        yield size[cut].reshape(-1), place((draws - added + ONE).astype(np.uint32).reshape(-1))


def kept_below(i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """What each element's draw is compared with, int32: the probability of being kept, times 2^24."""
    low = at("low", i, stats, params, "density", "epsilon")
    slope = at("slope", i, stats, params, "epsilon")
    return low + rounded(tile.fields["rank"][i].astype(jnp.float32) * slope).astype(jnp.int32)


def trim(delta: Array, i: int, tile: Tile, stats: Stats, params: Params) -> Array:
    """Keeps the elements whose draw of the mask field lies below their probability, or those of a recorded mask."""
    below = kept_below(i, tile, stats, params)
    if "mask" in tile.fields:
        kept = tile.fields["mask"][i]
    else:
        words = mask_field.field(stats["key"][i], tile.rows, delta.shape[-1])
        kept = mask_field.draw(words).astype(jnp.int32) < below
    probability = jnp.clip(below, 1, ONE).astype(jnp.float32) * np.float32(1 / ONE)
    ratio = at("ratio", i, stats, params, "density", "epsilon")
    ratio = jnp.where(params["published"] != 0, 1 / probability, ratio)
    return jnp.where(kept, rescaled(delta, ratio, params), 0)


RANKED = Trim(prepare, trim, (density(0.2, 0.8, cells=8), EPSILON, PUBLISHED), check, field_bytes=2)
