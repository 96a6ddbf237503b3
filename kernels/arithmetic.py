"""Float32 arithmetic whose bits do not depend on the program around it, and the widening of stored dtypes."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

LOWEST = np.finfo(np.float32).min


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


def widen(array: Array) -> Array:
    """Float32 values of a stored array (uint16 is read as the bits of bfloat16). Exact for bfloat16, float16,
    float32.
    """
    if array.dtype == jnp.uint16:
        return lax.bitcast_convert_type(array.astype(jnp.uint32) << 16, jnp.float32)
    return array.astype(jnp.float32)
