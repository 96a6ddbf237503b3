"""Order statistics in NumPy, on the bit patterns of the magnitudes: for floats that are not negative, the
order of the patterns read as unsigned integers is the order of the values, and integers are selected
faster."""

import numpy as np

SORT_FROM = 8  # counts: from so many on, one sort is cheaper than a partition around each


def smallest_kept(magnitudes: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The smallest of the `counts[g]` largest magnitudes, float32 `[G]`.

    magnitudes: float32 of any shape, not negative; counts: integers `[G]` in [1, n].
    """
    bits = np.ascontiguousarray(magnitudes, np.float32).ravel().view(np.uint32)
    places = bits.size - np.asarray(counts, np.int64)
    ordered = np.sort(bits) if len(places) >= SORT_FROM else np.partition(bits, np.unique(places))
    return ordered[places].view(np.float32)
