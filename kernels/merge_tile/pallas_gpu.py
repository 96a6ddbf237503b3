"""The merge of a tile on a GPU, through Triton: a program merges a few rows of a block in registers."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxmerge.kernels.merge_tile.form import Form, Values
from jaxmerge.kernels.merge_tile.scalars import packed, values_at
from jaxmerge.kernels.merge_tile.tile import Block, matrices

ELEMENTS = 1024  # of a block: 8 for each thread
WIDEST, NARROWEST = 512, 32
MOST_SOURCES = 16


def merge_tile(
    base: Array | None,
    sources: Sequence[Array],
    values: Values,
    form: Form,
    *,
    keys: Array | None = None,
    rows: Array | None = None,
    dtype: Any = jnp.float32,
    interpret: bool = False,
) -> Array:
    """See `api.merge_tile`. Blocks are powers of two that divide the tile."""
    arrays, words = matrices(base, sources, keys, rows, form)
    count, (height, width) = len(sources), arrays[0].shape
    if count > MOST_SOURCES:
        raise NotImplementedError(f"{count} sources are more than {MOST_SOURCES}")
    wide = math.gcd(width, WIDEST)
    if wide < NARROWEST:
        raise NotImplementedError(f"{width} columns are no multiple of {NARROWEST}")
    tall = math.gcd(height, ELEMENTS // wide)
    cut = pl.BlockSpec((tall, wide), lambda i, j: (i, j))
    scalars = packed(values, count)
    merge = pl.pallas_call(
        functools.partial(_kernel, form=form, count=count, has_base=base is not None),
        out_shape=jax.ShapeDtypeStruct((height, width), dtype),
        grid=(height // tall, width // wide),
        in_specs=[
            *(pl.BlockSpec(array.shape, lambda i, j: (0,)) for array in scalars),
            *[cut] * len(arrays),
            *[pl.BlockSpec((tall, 2 * count), lambda i, j: (i, 0))] * len(words),
        ],
        out_specs=cut,
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=interpret,
        name="merge_tile",
    )
    return merge(*scalars, *arrays, *words).reshape(sources[0].shape)


def _kernel(floats: Any, below: Any, *refs: Any, form: Form, count: int, has_base: bool) -> None:
    *inputs, out = refs
    block = Block([ref[...] for ref in inputs[: count + has_base]], has_base)
    if form.trim == "random":
        block.drawn(inputs[-1], slice(None), pl.program_id(1) * out.shape[1])
    out[...] = block.merged(values_at(0, floats, below, count), form).astype(out.dtype)
