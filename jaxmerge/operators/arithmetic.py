"""What operators compute with: the kernels' arithmetic, a sine, and stored dtypes."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmerge.kernels.arithmetic import depart, divided, rounded, widen

__all__ = ["BFLOAT16", "depart", "divided", "narrowed", "rounded", "sine", "storable", "stored", "widen", "widened"]

BFLOAT16 = jnp.dtype(jnp.bfloat16)
PI = (np.float32(3.140625), np.float32(9.67653589793e-4))  # the first part times a small integer is exact
SINE = tuple(np.float32((-1) ** n / math.factorial(2 * n + 1)) for n in range(6, 0, -1))


def sine(x: Array) -> Array:
    """sin(x) to 2e-7, for float32 |x| below 1000. Of the compiler's own sine, scalars and vectors have other
    bits.
    """
    turns = jnp.round(x / np.float32(np.pi))
    r = x - rounded(turns * PI[0]) - rounded(turns * PI[1])
    square = rounded(r * r)
    series = jnp.zeros_like(r)
    for coefficient in SINE:
        series = rounded((series + coefficient) * square)
    value = r + rounded(r * series)
    return jnp.where(turns % 2 == 0, value, -value)


def storable(array: Any) -> Any:
    """A host array in the form in which it enters a jitted function: bfloat16 as its uint16 bits.

    XLA:CPU converts bfloat16 arguments one element at a time and hoists the conversion; `widen` on bits is
    fast.
    """
    return array.view(np.uint16) if array.dtype == BFLOAT16 else array


def stored(array: np.ndarray) -> np.ndarray:
    """The host array that `storable` was given."""
    return array.view(BFLOAT16) if array.dtype == np.uint16 else array


def narrowed(array: Array, dtype: Any) -> Array:
    """A stored array in a dtype, rounded where that is narrower."""
    if array.dtype == jnp.uint16 and jnp.dtype(dtype) == BFLOAT16:
        return lax.bitcast_convert_type(array, jnp.bfloat16)
    return widen(array).astype(dtype)


def widened(array: np.ndarray) -> np.ndarray:
    """`widen` on the host, for arrays in the dtype of their checkpoint. Shares memory where it is float32
    already.
    """
    if array.dtype == BFLOAT16:
        return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return np.asarray(array, np.float32)
