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


def field(key: Any, rows: Any, columns: int) -> Any:
    """Random words for whole rows of a tensor.

    key: uint32 `[2]`; rows: uint32 `[...]`, the row index within the tensor (leading axes flattened).
    Returns uint32 `[..., columns]`, a NumPy or a JAX array like `rows`. A field depends on nothing else.
    """
    index = rows[..., None]
    first = mix(mix(index ^ key[0]) ^ key[1])
    second = mix(first + GOLDEN)
    x = np.arange(columns, dtype=np.uint32) ^ first
    x = (x ^ (x >> 16)) * FIRST ^ second
    x = (x ^ (x >> 15)) * SECOND
    return x ^ (x >> 16)
