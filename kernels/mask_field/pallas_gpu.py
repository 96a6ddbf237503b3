"""The mask field on a GPU, through Triton. Its roofline is in `pallas_tpu`."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from jaxmerge.kernels.mask_field.reference import element_words, row_words

ELEMENTS, WIDEST, NARROWEST = 1024, 512, 32


def field(key: Array, rows: Array, columns: int, *, interpret: bool = False) -> Array:
    """See `reference.field`: the same bits, as a JAX array. Blocks are powers of two that divide the field."""
    if jnp.ndim(rows) == 0 or jnp.size(rows) == 0 or columns % NARROWEST or columns == 0:
        raise NotImplementedError(f"a field of {jnp.size(rows)} rows and {columns} columns")
    numbers = jnp.asarray(rows, jnp.uint32).reshape(-1, 1)
    wide = math.gcd(columns, WIDEST)
    tall = math.gcd(len(numbers), ELEMENTS // wide)
    words = pl.pallas_call(
        _kernel,
        out_shape=jax.ShapeDtypeStruct((len(numbers), columns), jnp.uint32),
        grid=(len(numbers) // tall, columns // wide),
        in_specs=[pl.BlockSpec((2,), lambda i, j: (0,)), pl.BlockSpec((tall, 1), lambda i, j: (i, 0))],
        out_specs=pl.BlockSpec((tall, wide), lambda i, j: (i, j)),
        compiler_params=triton.CompilerParams(num_warps=4),
        interpret=interpret,
        name="mask_field",
    )(jnp.asarray(key, jnp.uint32), numbers)
    return words.reshape(*rows.shape, columns)


def _kernel(key: Any, rows: Any, out: Any) -> None:
    wide = out.shape[1]
    columns = lax.broadcasted_iota(jnp.int32, (1, wide), 1) + pl.program_id(1) * wide
    out[...] = element_words(row_words((key[0], key[1]), rows[...]), columns.astype(jnp.uint32))
