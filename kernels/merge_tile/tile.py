"""What the kernels of a merge have in common: a block in fast memory is widened and merged by the reference's code."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl

from jaxmerge.kernels.arithmetic import widen
from jaxmerge.kernels.mask_field import draw
from jaxmerge.kernels.mask_field.reference import element_words, row_words
from jaxmerge.kernels.merge_tile.form import Form, Values
from jaxmerge.kernels.merge_tile.reference import averaged, merged, numbered

TAKEN = (jnp.float32, jnp.bfloat16, jnp.uint16)


def matrices(
    base: Array | None, sources: Sequence[Array], keys: Array | None, rows: Array | None, form: Form
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The sources, and the base behind them, as matrices; and for the trim "random" the words of their rows, uint32
    `[R, 2 K]`, two for each source. Formed here, they are read rather than hashed again with every block, and Triton's
    compiler, which takes minutes over a hash that ends in a product, is spared most of it.

    Raises NotImplementedError where no kernel takes them.
    """
    shape = sources[0].shape
    if len(shape) < 2 or 0 in shape:
        raise NotImplementedError(f"a tensor of shape {shape} is no matrix")
    if form.trim != "none" and base is None:
        raise NotImplementedError("a trim needs a base")
    arrays = (*sources, *(() if base is None else (base,)))
    for array in arrays:
        if array.dtype not in TAKEN:
            raise NotImplementedError(f"{array.dtype} is none of {', '.join(jnp.dtype(t).name for t in TAKEN)}")
    flat = tuple(readable(array).reshape(-1, shape[-1]) for array in arrays)
    if form.trim != "random":
        return flat, ()
    assert keys is not None
    numbers = jnp.reshape(numbered(shape) if rows is None else rows, (-1,))
    words = [word for key in keys for word in row_words(key, numbers)]
    return flat, (jnp.stack(words, axis=1),)


def readable(array: Array) -> Array:
    """bfloat16 in place of its bits."""
    return lax.bitcast_convert_type(array, jnp.bfloat16) if array.dtype == jnp.uint16 else array


class Block:
    """A block of the sources, widened once and merged for any number of candidates."""

    def __init__(self, arrays: Sequence[Array], has_base: bool):
        """arrays: the sources' blocks, and the base's behind them."""
        self.base = widen(arrays[-1]) if has_base else None
        sources = [widen(array) for array in (arrays[:-1] if has_base else arrays)]
        self.parts = sources if self.base is None else [source - self.base for source in sources]
        self.draws: list[Array] = []

    def drawn(self, words: Any, where: Any, first_column: Any) -> "Block":
        """With the draws of its elements. words: a reference to those of rows, see `matrices`; where: its rows."""
        shape = self.parts[0].shape
        columns = (lax.broadcasted_iota(jnp.int32, (1, shape[1]), 1) + first_column).astype(jnp.uint32)
        for i in range(len(self.parts)):
            of_rows = (words[where, pl.ds(2 * i, 1)], words[where, pl.ds(2 * i + 1, 1)])
            self.draws.append(draw(element_words(of_rows, columns)))
        return self

    def merged(self, values: Values, form: Form) -> Array:
        if self.base is None:
            return averaged(self.parts, values)
        return merged(self.base, self.parts, self.draws, values, form)
