"""The merged matmul on a TPU: a block of the sources comes into VMEM once, is merged for a block of candidates, and
each merge is multiplied with its candidate's tokens there.

Task vectors and draws are formed once for all candidates of the block. `reference` has the roofline.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxmerge.kernels.merge_tile.form import Form, Values
from jaxmerge.kernels.merge_tile.pallas_tpu import LANES, STRIP
from jaxmerge.kernels.merge_tile.scalars import packed, values_at
from jaxmerge.kernels.merge_tile.tile import Block, matrices
from jaxmerge.kernels.merged_matmul.reference import of_candidates, product

MOST_TOKENS = 512  # of a candidate in a block
MOST_ROWS = 1024  # tokens of all candidates in a block
MOST_CANDIDATES = 8
WHOLE_WIDTH = 1024  # widths up to this are not divided
VMEM = 12 << 20  # bytes, of the 16 MiB that a kernel gets


def merged_matmul(
    x: Array,
    base: Array | None,
    sources: Sequence[Array],
    values: Values,
    form: Form,
    *,
    keys: Array | None = None,
    rows: Array | None = None,
    block: tuple[int, int] = (256, 512),
    interpret: bool = False,
) -> Array:
    """See `api.merged_matmul`. block: rows and columns of a block of W."""
    arrays, words = matrices(base, sources, keys, rows, form)
    candidates, tokens, width = x.shape
    count, height = len(sources), arrays[0].shape[0]
    if x.dtype not in (jnp.float32, jnp.bfloat16):
        raise NotImplementedError(f"tokens in {x.dtype}")
    tall, wide = min(block[0], pl.cdiv(height, LANES) * LANES), _wide(width, block[1])
    some = min(MOST_TOKENS, pl.cdiv(tokens, STRIP) * STRIP)
    stored = sum(array.dtype.itemsize for array in arrays)
    group = _group(candidates, some, tall, wide, stored, x.dtype.itemsize)
    multiply = pl.pallas_call(
        functools.partial(_kernel, form=form, count=count, has_base=base is not None),
        out_shape=jax.ShapeDtypeStruct((candidates, tokens, height), x.dtype),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(candidates // group, pl.cdiv(tokens, some), pl.cdiv(height, tall), width // wide),
            in_specs=[
                pl.BlockSpec((group, some, wide), lambda p, t, i, j, *_: (p, t, j)),
                *[pl.BlockSpec((tall, wide), lambda p, t, i, j, *_: (i, j))] * len(arrays),
                *[pl.BlockSpec((tall, 2 * count), lambda p, t, i, j, *_: (i, 0))] * len(words),
            ],
            out_specs=pl.BlockSpec((group, some, tall), lambda p, t, i, j, *_: (p, t, i)),
            scratch_shapes=[pltpu.VMEM((group, tall, wide), x.dtype), pltpu.VMEM((group, some, tall), jnp.float32)],
        ),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel", "parallel", "arbitrary")),
        interpret=interpret,
        name="merged_matmul",
    )
    return multiply(*packed(of_candidates(values, candidates), count), x, *arrays, *words)


def _wide(width: int, most: int) -> int:
    """Columns of a block: they must divide the width, for what lies beyond it would be summed."""
    for wide in range(most // LANES * LANES, 0, -LANES):
        if width % wide == 0:
            return wide
    if width > WHOLE_WIDTH:
        raise NotImplementedError(f"{width} columns are no multiple of {LANES}")
    return width


def _group(candidates: int, some: int, tall: int, wide: int, stored: int, size: int) -> int:
    """How many candidates share a block. stored, size: bytes of an element of all sources, and of a token's."""
    for group in range(min(candidates, MOST_CANDIDATES, max(1, MOST_ROWS // some)), 0, -1):
        twice = stored * tall * wide + size * group * some * (wide + tall)  # the next block comes meanwhile
        if candidates % group == 0 and 2 * twice + group * tall * (size * wide + 4 * some) <= VMEM:
            return group
    raise NotImplementedError(f"blocks of {stored} bytes an element, {tall} x {wide}, leave no room for {some} tokens")


def _kernel(floats: Any, below: Any, x: Any, *refs: Any, form: Form, count: int, has_base: bool) -> None:
    *inputs, out, merges, sums = refs
    group, tall, wide = merges.shape
    first, column, step = pl.program_id(0) * group, pl.program_id(3) * wide, pl.program_id(3)
    last = pl.num_programs(3) - 1

    @pl.when(step == 0)
    def _() -> None:
        sums[...] = jnp.zeros(sums.shape, jnp.float32)

    def strip(s: Array, carry: None) -> None:
        where = pl.ds(s * STRIP, STRIP)
        block = Block([ref[where, :] for ref in inputs[: count + has_base]], has_base)
        if form.trim == "random":
            block.drawn(inputs[-1], where, column)

        def merge(p: Array, carry: None) -> None:
            chosen = values_at(first + p, floats, below, count)
            merges[p, where, :] = block.merged(chosen, form).astype(merges.dtype)

        lax.fori_loop(0, group, merge, None)

    def multiply(p: Array, carry: None) -> None:
        sums[p] += product(x[p], merges[p])

    lax.fori_loop(0, tall // STRIP, strip, None)
    lax.fori_loop(0, group, multiply, None)

    @pl.when(step == last)
    def _() -> None:
        out[...] = sums[...].astype(out.dtype)
