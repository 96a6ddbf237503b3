"""Exact sums of magnitudes in NumPy.

Floating-point sums depend on their order, hence on tiling, sharding and threads. Here every magnitude becomes
an integer, scaled by the power of two that puts the tensor's largest just below 2^31, and integers are
summed: the same result in any order. The rounding to integers costs at most `largest * 2^-31` an element.
"""

import numpy as np

HALF = 16  # float64 weights of bincount hold sums of 16-bit halves exactly up to 2^37 elements


def scaled(magnitudes: np.ndarray) -> tuple[np.ndarray, float]:
    """Magnitudes (float32, not negative, finite) as int64 below 2^31 + 1, and the power of two that undoes
    the scaling.
    """
    largest = float(magnitudes.max(initial=0.0))
    exponent = int(np.frexp(largest)[1])
    integers = np.rint(np.ldexp(magnitudes.astype(np.float64), 31 - exponent)).astype(np.int64)
    return integers, float(2.0 ** (exponent - 31))


def total(magnitudes: np.ndarray) -> float:
    """The sum of all magnitudes, float64."""
    integers, unit = scaled(magnitudes.ravel())
    return int(integers.sum()) * unit


def nested_sums(magnitudes: np.ndarray, first_set: np.ndarray, sets: int) -> np.ndarray:
    """Sums over nested sets, float64 `[sets]`: set g holds the elements whose `first_set` is at most g.

    magnitudes: float32 `[n]`; first_set: integers `[n]`, the smallest set that an element is in (`sets`: in
        none).
    """
    integers, unit = scaled(magnitudes.ravel())
    places = first_set.ravel()
    high = np.bincount(places, integers >> HALF, minlength=sets + 1)[:sets].astype(np.int64)
    low = np.bincount(places, integers & (2**HALF - 1), minlength=sets + 1)[:sets].astype(np.int64)
    return np.cumsum((high << HALF) + low).astype(np.float64) * unit
