"""Loops that run for several models side by side."""

import jax
from jax import Array
from jax.custom_batching import custom_vmap


@custom_vmap
def anywhere(flag: Array) -> Array:
    """A bool, as it is; under vmap whether it holds for any member, the same for all of them.

    A loop that goes on while this holds has one length for all members. With a condition of its own for each, vmap
    would make it choose between old and new state in every turn, a copy of the whole cache.
    """
    return flag


@anywhere.def_vmap
def _anywhere(size: int, batched: list[bool], flag: Array) -> tuple[Array, bool]:
    return anywhere(jax.numpy.any(flag)), False
