"""The merged matmul on a GPU, through Triton: a program merges a block of W in registers for a few candidates, and
keeps their sums there.

Programs that share a block of W follow one another, so that what one has read the next finds in the L2 cache.
`reference` has the roofline.
"""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxmerge.kernels.merge_tile.form import Form, Values
from jaxmerge.kernels.merge_tile.scalars import packed, values_at
from jaxmerge.kernels.merge_tile.tile import Block, matrices
from jaxmerge.kernels.merged_matmul.reference import of_candidates, product

LEAST = 16  # rows and columns that the matrix units take
TALL, WIDE, MOST_TOKENS, MOST_CANDIDATES = 64, 32, 64, 4
MOST_SOURCES = 8


def merged_matmul(
    x: Array,
    base: Array | None,
    sources: Sequence[Array],
    values: Values,
    form: Form,
    *,
    keys: Array | None = None,
    rows: Array | None = None,
    interpret: bool = False,
) -> Array:
    """See `api.merged_matmul`. Blocks are powers of two that divide W; tokens are filled up to whole blocks."""
    arrays, words = matrices(base, sources, keys, rows, form)
    candidates, tokens, width = x.shape
    count, height = len(sources), arrays[0].shape[0]
    tall, wide = math.gcd(height, TALL), math.gcd(width, WIDE)
    if min(tall, wide) < LEAST:
        raise NotImplementedError(f"{height} x {width} are no multiples of {LEAST}")
    if count > MOST_SOURCES or x.dtype not in (jnp.float32, jnp.bfloat16):
        raise NotImplementedError(f"{count} sources, tokens in {x.dtype}")
    some = min(MOST_TOKENS, max(LEAST, pl.next_power_of_2(tokens)))
    group = math.gcd(candidates, MOST_CANDIDATES)
    x = jnp.pad(x, ((0, 0), (0, -tokens % some), (0, 0)))
    scalars = packed(of_candidates(values, candidates), count)
    multiply = pl.pallas_call(
        functools.partial(_kernel, form=form, count=count, has_base=base is not None, wide=wide),
        out_shape=jax.ShapeDtypeStruct((candidates, x.shape[1], height), x.dtype),
        # The first axis of the grid runs fastest.
        grid=(candidates // group, x.shape[1] // some, height // tall),
        in_specs=[
            *(pl.BlockSpec(array.shape, lambda p, t, i: (0,)) for array in scalars),
            pl.BlockSpec((group, some, width), lambda p, t, i: (p, t, 0)),
            *[pl.BlockSpec((tall, width), lambda p, t, i: (i, 0))] * len(arrays),
            *[pl.BlockSpec((tall, 2 * count), lambda p, t, i: (i, 0))] * len(words),
        ],
        out_specs=pl.BlockSpec((group, some, tall), lambda p, t, i: (p, t, i)),
        # With 4 warps TIES spills registers, as ptxas says for sm_90.
        compiler_params=triton.CompilerParams(num_warps=8, num_stages=2),
        interpret=interpret,
        name="merged_matmul",
    )
    return multiply(*scalars, x, *arrays, *words)[:, :tokens]


def _kernel(floats: Any, below: Any, x: Any, *refs: Any, form: Form, count: int, has_base: bool, wide: int) -> None:
    *inputs, out = refs
    group, some, tall = out.shape
    first = pl.program_id(0) * group

    def step(k: Array, sums: tuple[Array, ...]) -> tuple[Array, ...]:
        where = pl.ds(k * wide, wide)
        block = Block([ref[:, where] for ref in inputs[: count + has_base]], has_base)
        if form.trim == "random":
            block.drawn(inputs[-1], slice(None), k * wide)
        found = []
        for p, total in enumerate(sums):
            merged = block.merged(values_at(first + p, floats, below, count), form).astype(x.dtype)
            found.append(total + product(x[p, :, where], merged))
        return tuple(found)

    zeros = tuple(jnp.zeros((some, tall), jnp.float32) for _ in range(group))
    for p, total in enumerate(lax.fori_loop(0, x.shape[2] // wide, step, zeros)):
        out[p] = total.astype(out.dtype)
