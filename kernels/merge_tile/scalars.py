"""The numbers of merges as two flat arrays, as kernels read them: from SMEM on a TPU, from global memory on a GPU."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxmerge.kernels.merge_tile.form import Values

FLOATS = 2  # of a merge, besides three for each source


def packed(values: Values, sources: int) -> tuple[Array, Array]:
    """Float32 `[P (3 K + 2)]` and uint32 `[P K]`; P is 1 where the values have no leading axis."""
    weight = jnp.asarray(values.weight, jnp.float32).reshape(-1, sources)
    ones = jnp.ones_like(weight)

    def of_merges(array: Any, fill: Array) -> Array:
        return fill if array is None else jnp.asarray(array).reshape(-1, sources)

    def single(array: Any) -> Array:
        return jnp.broadcast_to(jnp.asarray(array, jnp.float32).reshape(-1, 1), (len(weight), 1))

    floats = [weight, of_merges(values.threshold, ones), of_merges(values.ratio, ones)]
    flat = jnp.concatenate([*floats, single(values.scale), single(values.normalize)], axis=1).astype(jnp.float32)
    below = of_merges(values.below, jnp.zeros_like(weight)).astype(jnp.uint32)
    return flat.reshape(-1), below.reshape(-1)


def values_at(merge: Any, floats: Any, below: Any, sources: int) -> Values:
    """The values of one merge, as tuples of scalars. floats, below: references to what `packed` made."""
    first = merge * (3 * sources + FLOATS)

    def each(place: int) -> tuple[Any, ...]:
        return tuple(floats[first + place * sources + i] for i in range(sources))

    return Values(
        weight=each(0),
        threshold=each(1),
        ratio=each(2),
        scale=floats[first + 3 * sources],
        normalize=floats[first + 3 * sources + 1],
        below=tuple(below[merge * sources + i] for i in range(sources)),
    )

