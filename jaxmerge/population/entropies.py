"""The compiled program that measures how sure candidates are of their predictions."""

from functools import partial

import jax
from jax import Array

from jaxmerge.models.entropy import sequence_entropy
from jaxmerge.population.merged import Values
from jaxmerge.population.programs import Population, Rows, Shape, each, over_population


@partial(jax.jit, static_argnames="shape")
def entropies(shape: Shape, population: Population, values: Values, buckets: tuple[Rows, ...]) -> tuple[Array, ...]:
    """Summed entropy of the predictions of every row's counted tokens: for each bucket float32 `[block, M, rows]`.

    values: `[block, ...]`, the candidates' parameters.
    """

    def candidate(operands: tuple[Population, tuple[Rows, ...]], mine: Values) -> tuple[Array, ...]:
        population, buckets = operands
        weights = population.candidate(mine)

        def micro(rows: Rows) -> Array:
            size = shape.head_block(rows[0].size)
            return sequence_entropy(weights, shape.config, *rows, dtype=shape.dtype, block_size=size)

        return tuple(each(micro, rows) for rows in buckets)

    return over_population(shape, candidate, (population, buckets), values)
