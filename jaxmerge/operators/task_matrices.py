"""Task vectors of linear layers as matrices, and their singular vectors, on the device in float32.

Directions whose singular value vanishes but for rounding (most of a LoRA's) are arbitrary: they are zero here, where
the papers' code takes them as they come.
"""

import re
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.errors import CheckpointError
from jaxmerge.operators.arithmetic import depart, rounded, widened
from jaxmerge.operators.interface import Params, Prepared, Request, Sources, Stats, Tile

TABLES = re.compile(r"embed|wte|wpe|lm_head|classifier", re.IGNORECASE)  # not linear maps within the model


def task_vectors(sources: Sources, request: Request) -> Iterator[np.ndarray]:
    """One after another, float32, new arrays. Raises CheckpointError where one is not finite."""
    assert sources.base is not None
    base = widened(sources.base)
    for expert in sources.experts:
        delta = widened(expert) - base
        if not np.isfinite(delta).all():
            raise CheckpointError(f"tensor {request.tensor}: a source or the base holds NaN or infinite values")
        yield delta


def parts_of(
    sources: Sources,
    request: Request,
    matrices: Callable[[Array], Array],
    others: Callable[[Iterator[np.ndarray], int], Iterable[np.ndarray]],
) -> Prepared:
    """`matrices` of the task vectors of a linear layer, `others` of those of any other tensor (embeddings, heads,
    norms, biases): the field "part", an array for the whole merge or one for each source. Raises CheckpointError where
    it does not converge."""
    deltas, first = task_vectors(sources, request), sources.experts[0]
    if first.ndim != 2 or not first.size or TABLES.search(request.tensor):
        return Prepared(fields={"part": tuple(others(deltas, len(sources.experts)))})
    with jax.default_matmul_precision("highest"):
        found = np.asarray(matrices(jnp.asarray(np.stack(list(deltas)))))
    if not np.isfinite(found).all():
        raise CheckpointError(f"tensor {request.tensor}: the merge of its task vectors does not converge")
    return Prepared(fields={"part": tuple(found)})


def shares(deltas: Iterator[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """What each adds to their average."""
    return (np.multiply(delta, np.float32(1 / count), out=delta) for delta in deltas)


def average(deltas: Iterator[np.ndarray], count: int) -> tuple[np.ndarray]:
    parts = shares(deltas, count)
    total = next(parts)
    for part in parts:
        total += part
    return (total,)


def norms(matrices: Array) -> Array:
    """Frobenius norms `[K, 1]` of `[K, m, n]`; squares of the values might overflow or vanish."""
    largest = jnp.abs(matrices).max(axis=(1, 2))
    shares = matrices / jnp.where(largest > 0, largest, 1)[:, None, None]
    return (largest * jnp.sqrt(jnp.square(shares).sum(axis=(1, 2))))[:, None]


def directions(matrices: Array, largest: Array | None = None) -> tuple[Array, Array, Array]:
    """Singular vectors and values: `[..., m, r]`, `[..., r]` falling, `[..., r, n]` of `[..., m, n]`.

    largest: `[..., 1]`, the size of what the matrices were computed from, whose rounding they hold; default: their own
    largest singular value."""
    u, s, v = jnp.linalg.svd(matrices, full_matrices=False)
    there = s > (s[..., :1] if largest is None else largest) * (max(matrices.shape[-2:]) * jnp.finfo(jnp.float32).eps)
    return u * there[..., None, :], s * there, v * there[..., :, None]


def orthogonal(matrix: Array) -> Array:
    """The nearest matrix of orthonormal columns or rows (Procrustes)."""
    u, _, v = directions(matrix)
    return u @ v


def even(values: Array) -> Array:
    """The mean of the singular values that do not vanish."""
    count = jnp.maximum((values > 0).sum(), 1)
    return (values / count).sum()


def scaled(tile: Tile, stats: Stats, params: Params) -> Array:
    """The base plus the only part times lambda."""
    assert tile.base is not None
    return depart(tile.base, rounded(tile.fields["part"][0] * params["lambda"]))
