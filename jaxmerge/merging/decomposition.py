"""A matrix as a product of two narrow ones: the nearest of its rank, by singular values (Eckart & Young 1936)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.errors import CheckpointError


def decompose(
    name: str, delta: np.ndarray, rank: int | None, energy: float | None
) -> tuple[np.ndarray, np.ndarray] | None:
    """a `[r, in]` and b `[out, r]`, float32, of a matrix `[out, in]`, such that b @ a is the nearest of rank r to it;
    None for zeros.

    rank: the largest r. energy: r is the least whose singular values hold this share of the sum of all squares. Neither
    keeps what is zero but for rounding. The singular values are divided evenly over both. Raises CheckpointError naming
    the tensor where the decomposition does not converge.
    """
    u, s, v = map(np.asarray, _svd(jnp.asarray(delta, jnp.float32)))
    if not np.isfinite(s).all():
        raise CheckpointError(f"tensor '{name}': its singular values do not converge; leave the module out")
    kept = chosen_rank(s, max(delta.shape), rank, energy)
    if kept == 0:
        return None
    root = np.sqrt(s[:kept])
    return root[:, None] * v[:kept], u[:, :kept] * root


def chosen_rank(values: np.ndarray, size: int, rank: int | None, energy: float | None) -> int:
    """How many singular values, which fall, are kept. size: the longer side of the matrix, for what rounding leaves of
    a zero."""
    found = int((values > values[0] * size * np.finfo(np.float32).eps).sum()) if values.size else 0
    if energy is not None and found:
        squares = np.square(values[:found], dtype=np.float64).cumsum()
        found = min(found, 1 + int(np.searchsorted(squares, energy * squares[-1])))
    return found if rank is None else min(found, rank)


@jax.jit
def _svd(delta: Array) -> tuple[Array, Array, Array]:
    u, s, v = jnp.linalg.svd(delta, full_matrices=False)
    return u, s, v
