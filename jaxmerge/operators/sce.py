"""SCE: select the elements in which the models differ most, calculate each model's weight, erase what disagrees."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.errors import CheckpointError
from jaxmerge.kernels import selection
from jaxmerge.operators.arithmetic import depart, divided, rounded, widened
from jaxmerge.operators.grid import nearest
from jaxmerge.operators.interface import Operator, Parameter, Params, Prepared, Request, Sources, Stats, Tile

CHUNK = 1 << 16  # elements that are worked on while they stay in the cache


def spread(deltas: Sequence[Any], unit: Any, product: Callable[[Any], Any] = lambda x: x) -> Any:
    """How far the task vectors differ in each element: their variance, times K and `unit` squared; 0 exactly where
    they are all equal.

    deltas: K arrays, float32, of NumPy or JAX. unit: a power of two that keeps squares within float32's range.
    product: what is done to products before anything is added to them.
    """
    away = [(delta - deltas[0]) * unit for delta in deltas[1:]]
    total = sum(away[1:], start=away[0]) if away else deltas[0] * 0
    mean = product(total * np.float32(1 / len(deltas)))
    squares = product(mean * mean)
    for distance in away:
        squares = squares + product((distance - mean) * (distance - mean))
    return squares


def chunks(sources: Sources) -> Iterator[tuple[slice, list[np.ndarray]]]:
    """Parts of the flat task vectors, float32."""
    assert sources.base is not None
    base, experts = sources.base.reshape(-1), [expert.reshape(-1) for expert in sources.experts]
    for start in range(0, base.size, CHUNK):
        cut = slice(start, start + CHUNK)
        origin = widened(base[cut])
        yield cut, [widened(expert[cut]) - origin for expert in experts]


def prepare(sources: Sources, request: Request) -> Prepared:
    """On the select_topk grid: the smallest spread that is selected, float32 `[G]`, and the sources' weights, `[G, K]`:
    their shares of the mean squares of what is selected."""
    assert sources.base is not None
    grid = request.grid["select_topk"][0]
    largest = max((float(np.abs(delta).max()) for _, deltas in chunks(sources) for delta in deltas), default=0.0)
    if not np.isfinite(largest):
        raise CheckpointError(f"tensor {request.tensor}: a source or the base holds NaN or infinite values")
    unit = np.float32(2.0 ** -np.clip(np.frexp(largest)[1], -126, 126))
    size, count = sources.base.size, len(sources.experts)
    threshold = np.where(grid >= 1, 0, np.inf).astype(np.float32)
    spreads = np.empty(size, np.float32)
    if (grid < 1).any():
        for cut, deltas in chunks(sources):
            spreads[cut] = spread(deltas, unit)
        kept = (grid * np.count_nonzero(spreads)).astype(np.int64)
        some = (grid < 1) & (kept > 0)
        if some.any():
            threshold[some] = selection.smallest_kept(spreads, kept[some])
    squares = np.zeros((len(grid), count))
    for cut, deltas in chunks(sources):
        wide = [np.square(delta, dtype=np.float64) for delta in deltas]
        for g, least in enumerate(threshold):
            selected = slice(None) if least == 0 else spreads[cut] >= least
            squares[g] += [square[selected].sum() for square in wide]
    means = squares / max(size, 1)
    total = means.sum(axis=1, keepdims=True)
    weights = np.where(total < 1e-6, 1 / count, means / np.where(total < 1e-6, 1.0, total))
    return Prepared(
        {
            "select_topk": grid.astype(np.float32),
            "unit": unit,
            "threshold": threshold,
            "weights": weights.astype(np.float32),
        }
    )


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    threshold, weights = (
        nearest(stats[name], stats["select_topk"], params["select_topk"]) for name in ("threshold", "weights")
    )
    deltas = [source - tile.base for source in tile.sources]
    vote = deltas[0]
    for delta in deltas[1:]:
        vote = vote + delta
    elected = vote >= 0
    mix = divisor = jnp.zeros((), jnp.float32)
    for i, delta in enumerate(deltas):
        agrees = jnp.where(elected, delta > 0, delta < 0)
        mix = mix + jnp.where(agrees, rounded(weights[i] * delta), 0)
        divisor = divisor + jnp.where(agrees, weights[i], 0)
    selected = spread(deltas, stats["unit"], rounded) >= threshold
    return depart(tile.base, jnp.where(selected, divided(mix, jnp.maximum(divisor, 1e-6)), 0))


OPERATOR = Operator(
    "sce",
    "Task vectors weighted by their energy in the elements in which they differ most; what disagrees with the elected "
    "sign is left out.",
    apply,
    (
        Parameter(
            "select_topk",
            "share of the elements that are merged: those whose task vectors vary most; 1 merges all",
            1.0,
            low=0.0,
            high=1.0,
            search=(0.1, 1.0),
            gridded=True,
        ),
    ),
    prepare,
    needs_base=True,
    paper="Wan et al. 2024, FuseChat, arXiv:2408.07990",
)
