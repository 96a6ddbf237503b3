"""The dtypes that a model is computed in."""

import ml_dtypes
import numpy as np

DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}


def compute_dtype(name: str) -> np.dtype:
    """float32, bfloat16 or float16 by name; `auto` is bfloat16 on accelerators and float32 on a CPU."""
    if name == "auto":
        import jax

        name = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return DTYPES[name]


def cache_dtype(name: str) -> np.dtype | None:
    """Of the keys and values of what is written, by name; None for `auto`: the dtype of the forward pass."""
    return None if name == "auto" else DTYPES[name]
