"""NaN and infinity in weights, found while they stream by."""

import ml_dtypes
import numpy as np

from jaxmerge.errors import CheckpointError

BLOCK = 1 << 20
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


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
    # bfloat16 by its bits: NaN and infinity have an exponent of ones. numpy would widen every element.
    if block.dtype == BFLOAT16:
        return bool((block.view(np.uint16) & 0x7FFF).max() < 0x7F80)
    return bool(np.isfinite(block).all())
