"""Selection on a TPU: `radix` with a kernel that counts for all boundaries while a block is in VMEM."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from jaxmerge.kernels.selection import radix

SUBLANES, LANES = 8, 128
MOST_COUNTS = 64


def smallest_kept(magnitudes: Array, counts: Array, *, rows: int = 512, interpret: bool = False) -> Array:
    """See `api.smallest_kept`. rows: of 128 elements in a block, a multiple of 8."""
    if len(counts) > MOST_COUNTS:
        raise NotImplementedError(f"{len(counts)} counts at once")
    return radix.smallest_kept(magnitudes, counts, functools.partial(at_least, rows=rows, interpret=interpret))


def at_least(patterns: Array, boundaries: Array, *, rows: int, interpret: bool) -> Array:
    """A `radix.Counting`. Patterns are filled up with negative ones, which no boundary counts."""
    blocks = pl.cdiv(patterns.size, rows * LANES)
    patterns = jnp.pad(patterns, (0, blocks * rows * LANES - patterns.size), constant_values=-1)
    count = len(boundaries)
    found = pl.pallas_call(
        _kernel,
        out_shape=jax.ShapeDtypeStruct((count, SUBLANES, LANES), jnp.int32),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(blocks,),
            in_specs=[pl.BlockSpec((rows, LANES), lambda i, *_: (i, 0))],
            out_specs=pl.BlockSpec((count, SUBLANES, LANES), lambda i, *_: (0, 0, 0)),
        ),
        # One block after another: all add to the same counts, a count for each place of a register.
        compiler_params=pltpu.CompilerParams(dimension_semantics=("arbitrary",)),
        interpret=interpret,
        name="at_least",
    )(boundaries, patterns.reshape(-1, LANES))
    return found.sum(axis=(1, 2), dtype=jnp.int32)


def _kernel(boundaries: Any, patterns: Any, out: Any) -> None:
    @pl.when(pl.program_id(0) == 0)
    def _() -> None:
        out[...] = jnp.zeros(out.shape, jnp.int32)

    registers = patterns.shape[0] // SUBLANES

    def of_boundary(b: Array, carry: None) -> None:
        def register(r: Array, found: Array) -> Array:
            return found + (patterns[pl.ds(r * SUBLANES, SUBLANES), :] >= boundaries[b]).astype(jnp.int32)

        out[b] = lax.fori_loop(0, registers, register, out[b], unroll=min(registers, 8))

    lax.fori_loop(0, out.shape[0], of_boundary, None)
