"""Selection in XLA: the k-th largest of n bit patterns, digit by digit.

A pass counts how many patterns are at least each of 15 boundaries, a cumulative histogram of the next 4 bits below
what is known of the result: 8 passes, whatever the values are, and sharded arrays exchange 15 counts a pass.

Roofline, of G counts: `8 * 4` bytes read and `8 * 15 * 2 G` operations an element: for one count on a v5e 39 ps
against 40, so a pass takes its bytes' time; on an H200 7 ps both. More counts at once cost operations only. On a
CPU `reference` is faster by far, for a count is a whole pass there.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array, lax

DIGIT = 4
BOUNDARIES = (1 << DIGIT) - 1
BITS = 32  # the uppermost, the sign of a float, is 0

# Of int32 patterns `[n]`, none negative, and boundaries `[B]`: how many are at least each boundary, int32 `[B]`.
Counting = Callable[[Array, Array], Array]


def at_least(patterns: Array, boundaries: Array) -> Array:
    """A `Counting` in XLA, one boundary after another so that nothing of size n B is made."""
    return lax.map(lambda boundary: jnp.sum(patterns >= boundary, dtype=jnp.int32), boundaries)


def smallest_kept(magnitudes: Array, counts: Array, counting: Counting = at_least) -> Array:
    """See `api.smallest_kept`. Raises NotImplementedError for more than 2^31 - 1 elements: counts are int32."""
    if not 0 < magnitudes.size < 1 << 31:
        raise NotImplementedError(f"{magnitudes.size} elements")
    patterns = lax.bitcast_convert_type(jnp.asarray(magnitudes, jnp.float32), jnp.int32).reshape(-1)
    counts = jnp.asarray(counts, jnp.int32)
    digits = jnp.arange(1, BOUNDARIES + 1, dtype=jnp.int32)

    def narrowed(step: Array, known: Array) -> Array:
        shift = BITS - DIGIT * (step + 1)
        # Of the first digit the upper half would be negative.
        usable = digits <= jnp.where(step == 0, BOUNDARIES // 2, BOUNDARIES)
        boundaries = known[:, None] | (jnp.where(usable, digits, 0) << shift)
        found = counting(patterns, boundaries.reshape(-1)).reshape(boundaries.shape)
        digit = jnp.sum(usable & (found >= counts[:, None]), axis=1, dtype=jnp.int32)
        return known | (digit << shift)

    found = lax.fori_loop(0, BITS // DIGIT, narrowed, jnp.zeros_like(counts))
    return lax.bitcast_convert_type(found, jnp.float32)
