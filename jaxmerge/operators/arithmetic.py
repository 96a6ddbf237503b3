"""Float32 arithmetic whose bits do not depend on the program around it, and the widening of stored dtypes."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

LOWEST = np.finfo(np.float32).min
BFLOAT16 = jnp.dtype(jnp.bfloat16)


def rounded(product: Array) -> Array:
    """A product, rounded to float32 before anything is added to it.

    Compilers contract `a * b + c` into a fused multiply-add where they see both, and which of two products of
    a sum they contract depends on the program around it: the same merge would give other bits inside a
    forward pass than on its way to disk. A maximum with the lowest float in between (it changes -inf only)
    rules contraction out, so that every program computes what NumPy and torch compute.
    """
    return jnp.maximum(product, LOWEST)


def divided(numerator: Array, divisor: Array) -> Array:
    """A quotient that stays one: XLA turns a division by a scalar into a product with its rounded reciprocal
    where it can see that the divisor is one. A divisor that seems to vary with the elements (a NaN stays NaN)
    prevents it."""
    return numerator / jnp.where(jnp.isnan(numerator), 1.0, divisor)


@jax.custom_jvp
def depart(base: Array, mix: Array) -> Array:
    """`base + mix`, and bit for bit `base` (negative zeros, subnormals) where `mix` is zero."""
    return jnp.where(mix == 0, base, base + mix)


@depart.defjvp
def _depart_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    return depart(*primals), tangents[0] + tangents[1]


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


def widen(array: Array) -> Array:
    """Float32 values of a stored array (uint16 is read as the bits of bfloat16). Exact for bfloat16, float16,
    float32.
    """
    if array.dtype == jnp.uint16:
        return lax.bitcast_convert_type(array.astype(jnp.uint32) << 16, jnp.float32)
    return array.astype(jnp.float32)


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
