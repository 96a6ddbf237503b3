"""How every example's likelihood changes with a candidate's values: the Jacobian of which a gradient is the sum.

A backward pass of each row by itself has as many matrix products as one of all rows together, and gives every direction
of the recipe at once; forward, a few hundred directions would be a few hundred passes.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import PartitionSpec

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.objectives.interface import Quantity
from jaxmerge.population.gradients import QUANTITIES
from jaxmerge.population.merged import Values
from jaxmerge.population.programs import Population, Rows, Shape
from jaxmerge.population.split import specs
from jaxmerge.runtime.mesh import POP, over_pop

# Elements of the matrices by which the rows at work have gradients of their own, a matrix at a time.
ELEMENTS_AT_ONCE = 2**26
MOST_ROWS = 32


@partial(jax.jit, static_argnames=("shape", "quantity"))
def jacobian(
    shape: Shape, population: Population, values: Values, rows: Rows, quantity: Quantity
) -> tuple[Array, Values]:
    """The quantity of every row of a bucket, float32 `[R]`, and its gradient by the values, `[R, ...]` each. There are
    at least `M * rows` in their order; what follows them means nothing.

    values: of one candidate, all float32. Rows are divided over the mesh.
    """
    count, devices = rows[0].shape[0] * rows[0].shape[1], shape.mesh.shape[POP]
    share = -(-count // devices)

    def on_device(population: Population, values: Values, rows: Rows) -> tuple[Array, Values]:
        places = jnp.minimum(lax.axis_index(POP) * share + jnp.arange(share), count - 1)
        mine = tuple(array.reshape(count, -1)[places] for array in rows)

        def one(row: Rows) -> tuple[Array, Values]:
            def score(values: Values) -> Array:
                alone = (array[None] for array in row)
                return QUANTITIES[quantity](population.candidate(values), shape.config, *alone, dtype=shape.dtype)[0]

            return jax.value_and_grad(score)(values)

        return lax.map(one, mine, batch_size=min(share, rows_at_once(shape.config)))

    everywhere, divided = PartitionSpec(), PartitionSpec(POP)
    placed = (specs(population), everywhere, everywhere)
    return over_pop(shape.mesh, on_device, placed, divided)(population, values, rows)


def rows_at_once(config: DecoderConfig) -> int:
    return max(1, min(MOST_ROWS, ELEMENTS_AT_ONCE // (config.hidden_size * config.intermediate_size)))
