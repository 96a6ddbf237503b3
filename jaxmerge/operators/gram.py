"""Inner products of whole tensors and of their rows: what slerp and its kin need to know besides the tile.

Products of float32 values are exact in float64, and the sums run in a fixed order on one thread, so the results do
not depend on the number of cores.
"""

from collections.abc import Sequence

import numpy as np

from jaxmerge.operators.arithmetic import widened

CHUNK = 1 << 16  # elements: two float64 chunks stay in the cache


def vectors(tensors: Sequence[np.ndarray], base: np.ndarray | None, cut: slice) -> list[np.ndarray]:
    """Parts of the tensors, or of their float32 task vectors where there is a base, float64."""
    parts = [widened(tensor[cut]) for tensor in tensors]
    if base is not None:
        origin = widened(base[cut])
        parts = [part - origin for part in parts]
    return [part.astype(np.float64) for part in parts]


def gram(tensors: Sequence[np.ndarray], base: np.ndarray | None = None) -> np.ndarray:
    """All inner products of M flattened tensors, float64 `[M, M]`; with a base, of their task vectors.

    tensors, base: of one shape, in the dtype of their checkpoint.
    """
    flat = [tensor.reshape(-1) for tensor in tensors]
    origin = None if base is None else base.reshape(-1)
    size = len(flat)
    products = np.zeros((size, size))
    for start in range(0, flat[0].size, CHUNK):
        chunks = vectors(flat, origin, slice(start, start + CHUNK))
        for i in range(size):
            for j in range(i + 1):
                products[i, j] += np.einsum("n,n->", chunks[i], chunks[j])
    return mirrored(products)


def row_gram(tensors: Sequence[np.ndarray], base: np.ndarray | None = None, axis: int = -1) -> np.ndarray:
    """The same of each vector along the last axis, float64 `[*shape[:-1], M, M]`, or, with axis 0, along the first,
    `[*shape[1:], M, M]`."""
    size, shape = len(tensors), tensors[0].shape
    step = max(1, CHUNK // max(1, shape[-1])) if len(shape) > 1 else shape[0]
    left = shape[:-1] if axis == -1 else shape[1:]
    products = np.zeros((*left, size, size))
    for start in range(0, shape[0], max(1, step)):
        cut = slice(start, start + step)
        chunks = vectors(tensors, base, cut)
        for i in range(size):
            for j in range(i + 1):
                if axis == 0:
                    products[..., i, j] += np.einsum("n...,n...->...", chunks[i], chunks[j])
                elif len(shape) == 1:
                    products[i, j] = np.einsum("n,n->", chunks[i], chunks[j])
                else:
                    products[cut, ..., i, j] = np.einsum("...n,...n->...", chunks[i], chunks[j])
    return mirrored(products)


def mirrored(lower: np.ndarray) -> np.ndarray:
    return np.tril(lower) + np.swapaxes(np.tril(lower, -1), -1, -2)


def norms_of(products: np.ndarray) -> np.ndarray:
    """The vectors' norms, float64 `[..., M]`."""
    return np.sqrt(np.diagonal(products, axis1=-2, axis2=-1))
