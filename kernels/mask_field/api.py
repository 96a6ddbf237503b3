"""The mask field by the implementation that is asked for; its keys, draws and thresholds."""

import math
from hashlib import blake2b
from typing import Any

import numpy as np

from jaxmerge.kernels import choice

__all__ = ["BITS", "draw", "field", "keep", "keep_below", "mask_key"]

BITS = 24  # of each word are used: a density is exact in float32, and so is the comparison


def field(key: Any, rows: Any, columns: int, *, implementation: str | None = None) -> Any:
    """Random words for whole rows of a tensor, the same from every implementation.

    key: uint32 `[2]`; rows: uint32 `[...]`, the row index within the tensor (leading axes flattened).
    Returns uint32 `[..., columns]`, a NumPy or a JAX array like `rows`. implementation: see `choice`.
    """
    return choice.run("mask_field.field", implementation, key, rows, columns)


def mask_key(seed: int, place: int, tensor: str) -> np.ndarray:
    """The key of one source's mask for one tensor: uint32 `[2]`, a stable hash that depends on nothing else.

    seed: of the merge; place: of the source among the recipe's sources; tensor: its name in the checkpoint.
    """
    digest = blake2b(f"{seed}\0{place}\0{tensor}".encode(), digest_size=8).digest()
    return np.frombuffer(digest, "<u4").astype(np.uint32)


def keep_below(density: float) -> np.uint32:
    """The integer threshold of a density in [0, 1]: an element is kept where its draw lies below it.

    The sets that are kept are nested: what a density keeps, every larger density keeps as well.
    """
    return np.uint32(math.ceil(min(max(density, 0.0), 1.0) * 2**BITS))


def draw(words: Any) -> Any:
    """What is compared with a threshold: the upper 24 bits of each word of a field, uint32."""
    return words >> (32 - BITS)


def keep(words: Any, below: Any) -> Any:
    """Which elements of a field are kept under an integer threshold: bool, of the shape of `words`."""
    return draw(words) < below
