"""The dtypes that recipes name and checkpoints hold."""

from collections.abc import Sequence

import ml_dtypes
import numpy as np

FLOAT32 = np.dtype(np.float32)


def named_dtype(name: str | None) -> np.dtype | None:
    if name is None:
        return None
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def promoted(dtypes: Sequence[np.dtype]) -> np.dtype:
    """The smallest dtype that holds all: float32 for bfloat16 with float16."""
    result = dtypes[0]
    for dtype in dtypes[1:]:
        narrow = {result.itemsize, dtype.itemsize} == {2} and result != dtype
        result = FLOAT32 if narrow else np.promote_types(result, dtype)
    return result


def is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16
