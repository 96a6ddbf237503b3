"""What all trims have in common: their interface, magnitudes, tables on a grid, and rescaling.

A trim is a pair like an operator's: `prepare` makes tables on the grid of the values that will be asked, `[K, G]`
or `[K, G, H]` for two gridded parameters, and `apply` looks values up in them (the nearest grid point) and trims
elementwise. A density of 1 or more leaves a task vector as it is, a density of 0 or less leaves nothing.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.errors import CheckpointError
from jaxmerge.operators.arithmetic import widened
from jaxmerge.operators.grid import nearest
from jaxmerge.operators.interface import Parameter, Params, Prepared, Request, Sources, Stats, Tile, nothing

CHUNK = 1 << 16  # elements that are worked on while they stay in the cache
VANISHING = 1e-7  # L1 norms below it are not rescaled


def density(low: float = 0.1, high: float = 1.0, cells: int = 16) -> Parameter:
    """The share of a task vector that is kept. low, high: proposed to a search."""
    return Parameter(
        "density",
        "share of the source's task vector that is kept; 1 keeps it as it is",
        1.0,
        low=0.0,
        high=1.0,
        search=(low, high),
        per_source=True,
        gridded=True,
        cells=cells,
    )


@dataclass(frozen=True)
class Trim:
    """`apply(delta, i, tile, stats, params)` trims the task vector of source i; its shape does not change.

    parameters: those by which it trims. check, field_bytes: as in `Operator`.
    """

    prepare: Callable[[Sources, Request], Prepared]
    apply: Callable[[Array, int, Tile, Stats, Params], Array]
    parameters: tuple[Parameter, ...]
    check: Callable[[Mapping[str, Any]], str | None] = lambda params: None
    field_bytes: int = 0


def magnitudes(sources: Sources, request: Request) -> Iterator[tuple[np.ndarray, float]]:
    """`|W_i - W_b|` of one source after another, float32, flat, and the largest of them."""
    assert sources.base is not None
    base = widened(sources.base.reshape(-1))
    for i, expert in enumerate(sources.experts):
        size = widened(expert.reshape(-1)) - base
        np.abs(size, out=size)
        largest = float(size.max(initial=0.0))
        if not math.isfinite(largest):
            raise CheckpointError(f"tensor {request.tensor}: source {i + 1} or the base holds NaN or infinite values")
        yield size, largest


def slices(size: int, step: int = CHUNK) -> Iterator[slice]:
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def padded(rows: Sequence[np.ndarray], dtype: type = np.float32) -> np.ndarray:
    """Rows of different lengths as one array, each filled up with its last value."""
    width = max(map(len, rows))
    return np.stack([np.pad(np.asarray(row, dtype), (0, width - len(row)), mode="edge") for row in rows])


def is_wanted(request: Request, flag: str) -> bool:
    """Whether a flag is set, in any of the merges that will be asked for."""
    return bool(np.any(request.grid[flag][0]))


def restoring(kept: np.ndarray, whole: float) -> np.ndarray:
    """What restores the L1 norm of a trimmed task vector, float32 of the shape of `kept`; 1 where either norm
    vanishes. kept, whole: L1 norms after and before the trim."""
    vanishing = (kept < VANISHING) | (whole < VANISHING)
    return np.where(vanishing, 1.0, whole / np.where(vanishing, 1.0, kept)).astype(np.float32)


def at(name: str, i: int, stats: Stats, params: Params, *by: str) -> Array:
    """The entry of table `name` for source i at the grid point nearest to its values of the parameters `by`."""
    entry = jnp.asarray(stats[name])[i]
    for parameter in by:
        entry = nearest(entry, stats[parameter][i], params[parameter][i])
    return entry


def rescaled(delta: Array, ratio: Array, params: Params) -> Array:
    return delta * jnp.where(params["rescale"] != 0, ratio, 1.0)


NONE = Trim(
    nothing,
    lambda delta, i, tile, stats, params: delta,
    (Parameter("density", "accepted for mergekit's sake; nothing is trimmed", 1.0, per_source=True),),
)
