"""How the log-likelihood of reference answers, or the entropy of predictions, changes with a candidate's values.

Merging is differentiable, so the gradient goes through the operator to the recipe. Layers are merged again in the
backward pass: what is kept of a layer is its input.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from jaxmerge.models.entropy import sequence_entropy
from jaxmerge.models.likelihood import sequence_log_likelihood
from jaxmerge.objectives.interface import Quantity
from jaxmerge.population.merged import Values
from jaxmerge.population.programs import Population, Rows, Shape
from jaxmerge.population.split import specs
from jaxmerge.runtime.mesh import POP, over_pop

QUANTITIES = {"likelihood": sequence_log_likelihood, "entropy": sequence_entropy}


@partial(jax.jit, static_argnames=("shape", "quantity"))
def gradients(
    shape: Shape, population: Population, values: Values, rows: Rows, shares: Array, quantity: Quantity
) -> tuple[Array, Values]:
    """`sum(shares * quantities)` of one candidate over the rows of a bucket, and its gradient by the values.

    values: of one candidate, all float32. shares: float32 `[M, rows]`. Micro-batches are divided over the mesh.
    """

    def on_device(population: Population, values: Values, rows: Rows, shares: Array) -> tuple[Array, Values]:
        count, devices = shares.shape[0], shape.mesh.shape[POP]

        def part(values: Values, place: Array) -> Array:
            tokens, valid, counted = (lax.dynamic_index_in_dim(array, place, keepdims=False) for array in rows)
            weights = population.candidate(values)
            sums = QUANTITIES[quantity](weights, shape.config, tokens, valid, counted, dtype=shape.dtype)
            return (lax.dynamic_index_in_dim(shares, place, keepdims=False) * sums).sum()

        def add(total: tuple[Array, Values], turn: Array) -> tuple[tuple[Array, Values], None]:
            place = turn * devices + lax.axis_index(POP)
            mine = jax.value_and_grad(part)(values, jnp.minimum(place, count - 1))
            # In the last turn there may be nothing left for this device.
            return jax.tree.map(lambda sum, new: sum + jnp.where(place < count, new, 0), total, mine), None

        zero = (jnp.float32(0), jax.tree.map(jnp.zeros_like, values))
        total, _ = lax.scan(add, zero, jnp.arange(-(-count // devices)))
        return lax.psum(total, POP)

    everywhere = PartitionSpec()
    placed = (specs(population), everywhere, everywhere, everywhere)
    return over_pop(shape.mesh, on_device, placed, everywhere)(population, values, rows, shares)
