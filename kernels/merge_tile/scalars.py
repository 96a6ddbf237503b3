"""The numbers of merges as two flat arrays, as kernels read them: from SMEM on a TPU, from global memory on a GPU."""

from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxmerge.kernels.merge_tile.form import Form, Values

FLOATS = 2  # of a merge, besides three for each source


def packed(values: Values, keys: Array | None, form: Form, sources: int) -> tuple[Array, Array]:
    """Float32 `[P (3 K + 2)]` and uint32 `[2 K + P K]`; P is 1 where the values have no leading axis."""
    weight = jnp.asarray(values.weight, jnp.float32).reshape(-1, sources)
    ones = jnp.ones_like(weight)

    def of_merges(array: Any, fill: Array) -> Array:
        return fill if array is None else jnp.asarray(array).reshape(-1, sources)

    def single(array: Any) -> Array:
        return jnp.broadcast_to(jnp.asarray(array, jnp.float32).reshape(-1, 1), (len(weight), 1))

    floats = [weight, of_merges(values.threshold, ones), of_merges(values.ratio, ones)]
    flat = jnp.concatenate([*floats, single(values.scale), single(values.normalize)], axis=1).astype(jnp.float32)
    words = jnp.zeros((2 * sources,), jnp.uint32) if keys is None else jnp.asarray(keys, jnp.uint32).reshape(-1)
    below = of_merges(values.below, jnp.zeros_like(weight)).astype(jnp.uint32)
    return flat.reshape(-1), jnp.concatenate([words, below.reshape(-1)])


def values_at(merge: Any, floats: Any, words: Any, sources: int) -> Values:
    """The values of one merge, as tuples of scalars. floats, words: references to what `packed` made."""
    first, behind = merge * (3 * sources + FLOATS), (2 + merge) * sources

    def each(place: int) -> tuple[Any, ...]:
        return tuple(floats[first + place * sources + i] for i in range(sources))

    return Values(
        weight=each(0),
        threshold=each(1),
        ratio=each(2),
        scale=floats[first + 3 * sources],
        normalize=floats[first + 3 * sources + 1],
        below=tuple(words[behind + i] for i in range(sources)),
    )


def key_at(source: int, words: Any) -> tuple[Any, Any]:
    """The key of a source's mask."""
    return words[2 * source], words[2 * source + 1]
