"""The merge of a tile in XLA, and the arithmetic of one element, which the kernels share.

Roofline, of K sources and a base in bfloat16: `2 (K + 1)` bytes read and 2 written an element, 10 for K = 3, and vector
operations, counted in the jaxpr: `5 K + 9` of task arithmetic, `19 K + 16` of TIES, `30 K + 16` of DARE-TIES, of which
the mask's hash is 12 K. In picoseconds an element, K = 3:

| | bytes | task arithmetic | TIES | DARE-TIES |
|---|---|---|---|---|
| TPU v5e (0.82 TB/s, 6.1 T operations/s) | 12.2 | 3.9 | 12.0 | 17.4 |
| H200 (4.8 TB/s, 33 T operations/s) | 2.1 | 0.7 | 2.2 | 3.2 |

XLA makes one loop of all that and moves the same bytes. A kernel of this alone can win no more than what XLA loses by
its choice of tiles; `merged_matmul`, which is made of the same parts, does move fewer.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.kernels.arithmetic import depart, divided, rounded, widen
from jaxmerge.kernels.mask_field import draw, field
from jaxmerge.kernels.merge_tile.consensus import elected_sum, plain_sum
from jaxmerge.kernels.merge_tile.form import Form, Values


def merge_tile(
    base: Array | None,
    sources: Sequence[Array],
    values: Values,
    form: Form,
    *,
    keys: Array | None = None,
    rows: Array | None = None,
    dtype: jnp.dtype = jnp.float32,
) -> Array:
    """See `api.merge_tile`."""
    draws: list[Array] = []
    if form.trim == "random":
        assert keys is not None
        rows = numbered(sources[0].shape) if rows is None else rows
        draws = [draw(field(key, rows, sources[0].shape[-1])) for key in keys]
    if base is None:
        return averaged([widen(source) for source in sources], values).astype(dtype)
    base = widen(base)
    deltas = [widen(source) - base for source in sources]
    return merged(base, deltas, draws, values, form).astype(dtype)


def numbered(shape: Sequence[int]) -> Array:
    """uint32 `[*shape[:-1]]`: the number of each row of a whole tensor."""
    return jnp.arange(int(np.prod(shape[:-1])), dtype=jnp.uint32).reshape(shape[:-1])


def averaged(sources: Sequence[Array], values: Values) -> Array:
    """The weighted average of float32 sources, or their weighted sum."""
    mix, divisor = rounded(values.weight[0] * sources[0]), values.weight[0]
    for i, source in enumerate(sources[1:], 1):
        mix, divisor = mix + values.weight[i] * source, divisor + values.weight[i]
    return divided(mix, jnp.where(values.normalize != 0, divisor, 1.0))


def merged(base: Array, deltas: Sequence[Array], draws: Sequence[Array], values: Values, form: Form) -> Array:
    """`base + scale * combine(weight_i * trim(delta_i))`, in float32, each product rounded before it is added.

    base, deltas: float32, of one shape. draws: uint32 of that shape, one a source, for the trim "random".
    values: arrays, or sequences of scalars in fast memory.
    """
    updates = []
    for i, delta in enumerate(deltas):
        if form.trim == "magnitude":
            delta = jnp.where(jnp.abs(delta) >= values.threshold[i], delta * values.ratio[i], 0)
        elif form.trim == "random":
            delta = jnp.where(draws[i] < values.below[i], delta * values.ratio[i], 0)
        updates.append(rounded(values.weight[i] * delta))
    mix, divisor = (elected_sum if form.elect else plain_sum)(updates, values.weight)
    mix = divided(mix, jnp.where(values.normalize != 0, divisor, 1.0))
    return depart(base, rounded(mix * values.scale))
