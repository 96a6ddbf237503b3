"""Selection on a GPU, through Triton: `radix` with a kernel in which each program counts in blocks of its own."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxmerge.kernels.selection import radix

ELEMENTS = 4096  # of a block
MOST_COUNTS = 64


def smallest_kept(magnitudes: Array, counts: Array, *, interpret: bool = False) -> Array:
    """See `api.smallest_kept`."""
    if len(counts) > MOST_COUNTS:
        raise NotImplementedError(f"{len(counts)} counts at once")
    return radix.smallest_kept(magnitudes, counts, functools.partial(at_least, interpret=interpret))


def at_least(patterns: Array, boundaries: Array, *, interpret: bool) -> Array:
    """A `radix.Counting`. Patterns are filled up with negative ones, which no boundary counts."""
    blocks = pl.cdiv(patterns.size, ELEMENTS)
    patterns = jnp.pad(patterns, (0, blocks * ELEMENTS - patterns.size), constant_values=-1)
    count = len(boundaries)
    found = pl.pallas_call(
        _kernel,
        out_shape=jax.ShapeDtypeStruct((blocks, count), jnp.int32),
        grid=(blocks,),
        in_specs=[pl.BlockSpec((count,), lambda i: (0,)), pl.BlockSpec((ELEMENTS,), lambda i: (i,))],
        out_specs=pl.BlockSpec((1, count), lambda i: (i, 0)),
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=interpret,
        name="at_least",
    )(boundaries, patterns)
    return found.sum(axis=0, dtype=jnp.int32)


def _kernel(boundaries: Any, patterns: Any, out: Any) -> None:
    block = patterns[...]

    def of_boundary(b: Array, carry: None) -> None:
        out[0, b] = jnp.sum((block >= boundaries[b]).astype(jnp.int32))

    lax.fori_loop(0, out.shape[1], of_boundary, None)
