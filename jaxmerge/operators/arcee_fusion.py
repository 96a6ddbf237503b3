"""Arcee Fusion: take over the important changes of one model only.

A change is important by its size and by how much its row, as a distribution, differs from the base's.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.errors import CheckpointError
from jaxmerge.kernels import selection
from jaxmerge.operators.arithmetic import depart, rounded, widened
from jaxmerge.operators.interface import Operator, Params, Prepared, Request, Sources, Stats, Tile

CHUNK = 1 << 16  # elements that are worked on while they stay in the cache
FLOOR = 1e-8  # added to every probability


def softmax(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    wide = np.exp(wide - wide.max(axis=-1, keepdims=True, initial=-np.inf))
    return wide / wide.sum(axis=-1, keepdims=True) + FLOOR


def divergences(base: np.ndarray, other: np.ndarray) -> np.ndarray:
    """KL(softmax(other) || softmax(base)) of each row, float32 `[rows, 1]`, not negative. Inputs: `[rows, columns]`."""
    found = np.zeros((len(base), 1), np.float32)
    step = max(1, CHUNK // max(1, base.shape[-1]))
    for start in range(0, len(base) if base.size else 0, step):
        cut = slice(start, start + step)
        p, q = softmax(widened(other[cut])), softmax(widened(base[cut]))
        found[cut, 0] = np.maximum((p * np.log(p / q)).sum(axis=-1), 0)
    return found


def prepare(sources: Sources, request: Request) -> Prepared:
    """The importance from which on a change is taken over, float32: median + 1.5 interquartile ranges, the quartiles
    being the order statistics at `floor(q (n - 1))`, exact for every size (mergekit samples a million elements of
    larger tensors). The rows' divergences are a field of one column."""
    assert sources.base is not None
    shape = sources.base.shape
    base, other = (array.reshape(math.prod(shape[:-1]), shape[-1]) for array in (sources.base, sources.experts[0]))
    rows = divergences(base, other)
    importance = np.abs(widened(other) - widened(base)) * rows
    if not np.isfinite(importance).all():
        raise CheckpointError(f"tensor {request.tensor}: the source or the base holds NaN or infinite values")
    threshold = np.float32(0)
    if importance.size:
        ranks = np.array([int(q * (importance.size - 1)) for q in (0.25, 0.5, 0.75)])
        low, median, high = selection.smallest_kept(importance, importance.size - ranks)
        threshold = np.float32(median + np.float32(1.5) * (high - low))
    return Prepared({"threshold": threshold}, {"divergence": (rows.reshape(*shape[:-1], 1),)})


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    delta = tile.sources[0] - tile.base
    importance = rounded(jnp.abs(delta) * tile.fields["divergence"][0])
    return depart(tile.base, jnp.where(importance >= stats["threshold"], delta, 0))


OPERATOR = Operator(
    "arcee_fusion",
    "The base with the other model's important changes: those whose size times their row's divergence stands out.",
    apply,
    (),
    prepare,
    needs_base=True,
    max_sources=1,
    lacking="copy_single",
    paper="Arcee AI 2025, MergeKit's arcee_fusion",
)
