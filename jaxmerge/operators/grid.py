"""Tables on the grids of gridded parameters."""

import jax.numpy as jnp
from jax import Array


def nearest(table: Array, grid: Array, value: Array) -> Array:
    """The entry of a table, along its first axis, at the grid point nearest to a value."""
    return jnp.asarray(table)[jnp.argmin(jnp.abs(grid - value))]
