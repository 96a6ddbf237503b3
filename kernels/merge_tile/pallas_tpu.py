"""The merge of a tile on a TPU: blocks come into VMEM once and are merged in strips that fit its registers."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxmerge.kernels.merge_tile.form import Form, Values
from jaxmerge.kernels.merge_tile.scalars import packed, values_at
from jaxmerge.kernels.merge_tile.tile import Block, matrices

STRIP = 16  # rows: a tile of bfloat16 has 16 x 128 elements
LANES = 128
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
    block: tuple[int, int] = (256, 512),
    interpret: bool = False,
) -> Array:
    """See `api.merge_tile`. block: rows (whole strips) and columns (whole lanes) of a block in VMEM."""
    arrays, words = matrices(base, sources, keys, rows, form)
    count, (height, width) = len(sources), arrays[0].shape
    if count > MOST_SOURCES:
        raise NotImplementedError(f"{count} sources are more than {MOST_SOURCES}")
    tall, wide = min(block[0], pl.cdiv(height, STRIP) * STRIP), min(block[1], pl.cdiv(width, LANES) * LANES)
    cut = pl.BlockSpec((tall, wide), lambda i, j, *_: (i, j))
    merge = pl.pallas_call(
        functools.partial(_kernel, form=form, count=count, has_base=base is not None),
        out_shape=jax.ShapeDtypeStruct((height, width), dtype),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(pl.cdiv(height, tall), pl.cdiv(width, wide)),
            in_specs=[cut] * len(arrays) + [pl.BlockSpec((tall, 2 * count), lambda i, j, *_: (i, 0))] * len(words),
            out_specs=cut,
        ),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        interpret=interpret,
        name="merge_tile",
    )
    return merge(*packed(values, count), *arrays, *words).reshape(sources[0].shape)


def _kernel(floats: Any, below: Any, *refs: Any, form: Form, count: int, has_base: bool) -> None:
    *inputs, out = refs
    tall, wide = out.shape
    column = pl.program_id(1) * wide
    values = values_at(0, floats, below, count)

    def strip(s: Array, carry: None) -> None:
        where = pl.ds(s * STRIP, STRIP)
        block = Block([ref[where, :] for ref in inputs[: count + has_base]], has_base)
        if form.trim == "random":
            block.drawn(inputs[-1], where, column)
        out[where, :] = block.merged(values, form).astype(out.dtype)

    lax.fori_loop(0, tall // STRIP, strip, None)
