"""Inner products of whole tensors: what slerp and its kin need to know besides the tile."""

from collections.abc import Sequence

import numpy as np

from jaxmerge.operators.arithmetic import widened

CHUNK = 1 << 16  # elements: two float64 chunks stay in the cache


def gram(tensors: Sequence[np.ndarray]) -> np.ndarray:
    """All inner products of M flattened tensors, float64 `[M, M]`.

    tensors: of one shape, in the dtype of their checkpoint. Products of float32 values are exact in float64,
        and the sums run in a fixed order on one thread, so the result does not depend on the number of cores.
    """
    flat = [tensor.reshape(-1) for tensor in tensors]
    size = len(flat)
    products = np.zeros((size, size))
    for start in range(0, flat[0].size, CHUNK):
        chunks = [widened(tensor[start : start + CHUNK]).astype(np.float64) for tensor in flat]
        for i in range(size):
            for j in range(i + 1):
                products[i, j] += np.einsum("n,n->", chunks[i], chunks[j])
    return np.tril(products) + np.tril(products, -1).T
