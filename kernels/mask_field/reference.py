"""The mask field in plain array arithmetic: the same bits from NumPy and from JAX, on every backend and
sharding.

A counter-based hash in two levels. Each row's index is mixed with the key into two words, once a row; each
element then costs one 32-bit finaliser of its column index with those words. The finaliser is lowbias32 (C.
Wellons, "Prospecting for Hash Functions", 2018); the second word enters between its two multiplications, so
that no two rows are a mere permutation of each other's columns, as they would be with one word.
"""

from typing import Any

import numpy as np

FIRST, SECOND = np.uint32(0x7FEB352D), np.uint32(0x846CA68B)
GOLDEN = np.uint32(0x9E3779B9)


def mix(x: Any) -> Any:
    """lowbias32: a bijection of 32-bit words in which every input bit flips every output bit about half of
    the time.
    """
    x = (x ^ (x >> 16)) * FIRST
    x = (x ^ (x >> 15)) * SECOND
    return x ^ (x >> 16)


def row_words(key: Any, rows: Any) -> tuple[Any, Any]:
    """The two words of each row: uint32 of the shape of `rows`, the row index within the tensor."""
    first = mix(mix(rows ^ key[0]) ^ key[1])
    return first, mix(first + GOLDEN)


def element_words(words: tuple[Any, Any], columns: Any) -> Any:
    """The words of elements, from those of their rows and their columns: uint32 arrays that broadcast."""
    first, second = words
    x = columns ^ first
    x = (x ^ (x >> 16)) * FIRST ^ second
    x = (x ^ (x >> 15)) * SECOND
    return x ^ (x >> 16)


def field(key: Any, rows: Any, columns: int) -> Any:
    """See `api.field`."""
    return element_words(row_words(key, rows[..., None]), np.arange(columns, dtype=np.uint32))
