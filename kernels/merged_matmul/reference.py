"""The merged matmul in XLA: one candidate after another, each merge written and read again.

Roofline, for an element of W and a candidate with T tokens, K sources and a base in bfloat16, B candidates in a block:

| | bytes | vector operations of TIES | flops of the product |
|---|---|---|---|
| here | 2 (K + 1) read, 2 written, 2 read | 19 K + 16 | 2 T |
| kernels | 2 (K + 1) / B read | 17 K + 15, and (2 K + 1) / B | 2 T |

With K = 3 and B = 8, in picoseconds; the last column is for T = 128:

| | bytes here | bytes of a kernel | TIES | task arithmetic | product |
|---|---|---|---|---|---|
| TPU v5e (0.82 TB/s, 6.1 T operations/s, 197 TFLOP/s) | 14.6 | 1.2 | 11.0 | 2.9 | 1.3 |
| H200 (4.8 TB/s, 33 T operations/s, 989 TFLOP/s) | 2.5 | 0.2 | 2.0 | 0.5 | 0.3 |

XLA's time is that of its bytes until the product takes longer, from T* = 6 FLOP/s over B/s tokens on: 1440 on a v5e,
1240 on an H200. A kernel's is the sum of its last columns, less what overlaps. So at 128 tokens task arithmetic may
gain 3x to 5x and TIES, which the vector unit bounds, 1.2x; at T* nothing is left to gain. These are estimates.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmerge.kernels.merge_tile.form import Form, Values
from jaxmerge.kernels.merge_tile.reference import merge_tile

TRANSPOSED = (((1,), (1,)), ((), ()))  # the second matrix is [out, in]


def merged_matmul(
    x: Array,
    base: Array | None,
    sources: Sequence[Array],
    values: Values,
    form: Form,
    *,
    keys: Array | None = None,
    rows: Array | None = None,
) -> Array:
    """See `api.merged_matmul`."""

    def candidate(of_one: tuple[Array, Values]) -> Array:
        tokens, chosen = of_one
        merged = merge_tile(base, sources, chosen, form, keys=keys, rows=rows, dtype=x.dtype)
        return product(tokens, merged).astype(x.dtype)

    return lax.map(candidate, (x, of_candidates(values, len(x))))


def product(tokens: Array, matrix: Array) -> Array:
    """`tokens @ matrix.T` in float32. tokens: `[T, in]`; matrix: `[out, in]`."""
    exact = lax.Precision.HIGHEST if tokens.dtype == jnp.float32 else lax.Precision.DEFAULT
    return lax.dot_general(tokens, matrix, TRANSPOSED, precision=exact, preferred_element_type=jnp.float32)


def of_candidates(values: Values, count: int) -> Values:
    """Single numbers become one for each candidate."""
    return jax.tree.map(lambda v: v if jnp.ndim(v) else jnp.full((count,), v, jnp.float32), values)
