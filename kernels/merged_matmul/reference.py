"""The merged matmul in XLA: one candidate after another.

Roofline, for an element of W and a candidate with T tokens, K sources and a base in bfloat16, B candidates in a block:

| | bytes | vector operations of TIES | flops of the product |
|---|---|---|---|
| XLA for TPUs, which merges inside the product | 2 (K + 1) read | 19 K + 16 | 2 T |
| XLA for GPUs, which writes each merge | 2 (K + 1) read, 2 written, 2 read | 19 K + 16 | 2 T |
| kernels | 2 (K + 1) / B read | 17 K + 15, and (2 K + 1) / B | 2 T |

For K = 3 the TPU compiler counts 8.1 bytes and allots no merge; XLA for an H100 allots one. In picoseconds, with K = 3,
B = 8 (on a GPU 4, and the L2 cache), and the product for T = 128:

| | bytes here | operations here: arithmetic, TIES, DARE-TIES | bytes of a kernel | its operations | product |
|---|---|---|---|---|---|
| TPU v5e (0.82 TB/s, 6.1 T operations/s, 197 TFLOP/s) | 9.8 | 3.9, 12.0, 17.4 | 1.2 | 2.9, 11.0, 11.2 | 1.3 |
| H200 (4.8 TB/s, 33 T operations/s, 989 TFLOP/s) | 2.5 | 0.7, 2.2, 3.2 | 0.2 | 0.5, 2.0, 2.1 | 0.3 |

What overlaps takes as long as the longest; a kernel's operations and its product overlap in part. So task arithmetic
may gain 2x to 3x at 128 tokens, DARE-TIES, whose hash is computed once for a block, 1.4x, and TIES nothing: there the
vector unit is the limit. Bytes cease to matter from T* tokens a candidate on: 4 FLOP/s over B/s on a v5e (960), 6 on an
H200 (1240). These are estimates; `benchmarks/kernels.py` measures.
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
