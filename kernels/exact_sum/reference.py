"""Exact sums of magnitudes in NumPy.

Floating-point sums depend on their order, hence on tiling, sharding and threads. Here every magnitude becomes
an integer, scaled by the power of two that puts the tensor's largest just below 2^31, and integers are
summed: the same result in any order. The rounding to integers costs at most `largest * 2^-32` an element.
"""

import math
from collections.abc import Iterable

import numpy as np

BITS = 31
MOST = 1 << 22  # elements, of which float64 holds the sum exactly


def nested_sums(chunks: Iterable[tuple[np.ndarray, np.ndarray]], largest: float, sets: int) -> np.ndarray:
    """Sums over nested sets, float64 `[sets + 1]`: set g holds the elements whose `first_set` is at most g,
    and the last sum is that of all elements.

    chunks: pairs of magnitudes (float32 `[n]`, not negative, finite) and `first_set` (integers `[n]`), the
        smallest set that an element is in, `sets` where it is in none. largest: the largest magnitude of all
        chunks.
    """
    exponent = math.frexp(largest)[1]
    sums = np.zeros(sets + 1, np.int64)
    for magnitudes, first_set in chunks:
        for start in range(0, len(magnitudes), MOST):
            part = slice(start, start + MOST)
            integers = np.multiply(magnitudes[part], 2.0 ** (BITS - exponent), dtype=np.float64)
            np.rint(integers, out=integers)
            sums += np.bincount(first_set[part], integers, minlength=sets + 1).astype(np.int64)
    return np.cumsum(sums).astype(np.float64) * 2.0 ** (exponent - BITS)
