"""NaN and infinity in weights, found while they stream by."""

import ml_dtypes
import numpy as np

from jaxmerge.errors import CheckpointError

BLOCK = 1 << 20
# The bits of infinity in 16-bit floats: NaN and infinity are those whose exponent is all ones.
INFINITY = {np.dtype(ml_dtypes.bfloat16): 0x7F80, np.dtype(np.float16): 0x7C00}


def is_finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite. Works in blocks, so it needs next to no memory."""
    if array.dtype.kind in "biu":
        return True
    flat = array.reshape(-1)
    return all(_block_is_finite(flat[start : start + BLOCK]) for start in range(0, flat.size, BLOCK))


def require_finite(name: str, array: np.ndarray) -> None:
    """CheckpointError naming the tensor where an element is NaN or infinite. `name` may lead with the
    file."""
    if not is_finite(array):
        raise CheckpointError(f"{name}: has NaN or infinite values; leave this model out or fetch it again")


def _block_is_finite(block: np.ndarray) -> bool:
    # By bits, where numpy would widen every element first.
    if block.dtype in INFINITY:
        return bool((block.view(np.uint16) & 0x7FFF).max() < INFINITY[block.dtype])
    return bool(np.isfinite(block).all())
