"""How weighted task vectors become one: their sum, or the sum of those that agree with an elected sign.

Both keep running sums over an unrolled loop: a reduction over a stack of sources would be several times
slower on a CPU.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jax import Array

Combine = Callable[[Sequence[Array], Array], tuple[Array, Array]]


def plain_sum(updates: Sequence[Array], weights: Array) -> tuple[Array, Array]:
    """`sum(u_i)` and `sum(w_i)`, the latter 1 where it vanishes (below 1e-8).

    updates: K arrays `w_i * d_i` of one shape; weights: `[K]`. Returns the sum and what normalising divides
        it by.
    """
    mix, divisor = updates[0], weights[0]
    for i, update in enumerate(updates[1:], 1):
        mix, divisor = mix + update, divisor + weights[i]
    return mix, jnp.where(jnp.abs(divisor) < 1e-8, 1.0, divisor)


def elected_sum(updates: Sequence[Array], weights: Array) -> tuple[Array, Array]:
    """The TIES election: every element takes the sign of `sum(u_i)` (a tie is positive), and only the updates
    of that sign are summed, with their weights. Zeros never agree.

    Shapes and result as in `plain_sum`; the divisor is an array, 1 where no update agrees.
    """
    zero = jnp.zeros((), jnp.float32)
    vote = positive = negative = positive_weight = negative_weight = zero
    for i, update in enumerate(updates):
        up, down = update > 0, update < 0
        vote = vote + update
        positive = positive + jnp.where(up, update, 0)
        negative = negative + jnp.where(down, update, 0)
        positive_weight = positive_weight + jnp.where(up, weights[i], 0)
        negative_weight = negative_weight + jnp.where(down, weights[i], 0)
    elected = vote >= 0
    divisor = jnp.where(elected, positive_weight, negative_weight)
    return jnp.where(elected, positive, negative), jnp.where(divisor == 0, 1.0, divisor)
