"""Task vectors of linear layers as matrices, and their singular vectors, on the device in float32.

Directions whose singular value vanishes but for rounding (most of a LoRA's) are arbitrary: they are zero here, where
the papers' code takes them as they come.
"""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.errors import CheckpointError
from jaxmerge.operators.arithmetic import depart, rounded, widened
from jaxmerge.operators.interface import Params, Prepared, Request, Sources, Stats, Tile

TABLES = re.compile(r"embed|wte|wpe|lm_head|classifier", re.IGNORECASE)  # not linear maps within the model


def task_vectors(sources: Sources, request: Request) -> np.ndarray:
    """Float32 `[K, *shape]`. Raises CheckpointError where one is not finite."""
    assert sources.base is not None
    base = widened(sources.base)
    found = np.stack([widened(expert) - base for expert in sources.experts])
    if not np.isfinite(found).all():
        raise CheckpointError(f"tensor {request.tensor}: a source or the base holds NaN or infinite values")
    return found


def per_matrix(
    sources: Sources, request: Request, matrices: Callable[[Array], Array], others: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """`matrices` of the task vectors of a linear layer, `others` of those of any other tensor: embeddings, heads,
    norms, biases. Raises CheckpointError where it does not converge."""
    deltas = task_vectors(sources, request)
    if deltas.ndim != 3 or not deltas.size or TABLES.search(request.tensor):
        return others(deltas)
    with jax.default_matmul_precision("highest"):
        found = np.asarray(matrices(jnp.asarray(deltas)))
    if not np.isfinite(found).all():
        raise CheckpointError(f"tensor {request.tensor}: the merge of its task vectors does not converge")
    return found


def average(deltas: np.ndarray) -> np.ndarray:
    # The sum first might overflow.
    return (deltas * np.float32(1 / len(deltas))).sum(axis=0)


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


def prepared(vector: np.ndarray) -> Prepared:
    """A merged task vector as what `scaled` adds."""
    return Prepared(fields={"merged": (vector,)})


def scaled(tile: Tile, stats: Stats, params: Params) -> Array:
    """The base plus the prepared task vector times lambda."""
    assert tile.base is not None
    return depart(tile.base, rounded(tile.fields["merged"][0] * params["lambda"]))
