"""The compiled programs that run candidates. Likelihoods fetch weights inside the layer loop.

A block of candidates is divided over the mesh's `pop` axis; on a device they are mapped one at a time, or vmapped
`chunk` at a time. Candidates do not communicate, so there are no collectives, and the weights are not gathered.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import jax
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.generation import generate
from jaxmerge.models.likelihood import sequence_log_likelihood, vocabulary_block
from jaxmerge.models.weights import Params, Weights
from jaxmerge.population.merged import Merging, Values, materialised
from jaxmerge.population.split import specs
from jaxmerge.runtime.mesh import POP, over_pop

Tree = TypeVar("Tree")


class Population(Protocol):
    """What all candidates of a search share: a pytree that makes a candidate's weights of its values."""

    def candidate(self, values: Values) -> Weights:
        """Made when they are asked for, to run a text as a whole."""
        ...

    def resident(self, values: Values) -> Weights:
        """Cheap to ask again for every token, to write a text."""
        ...


@dataclass(frozen=True)
class Shape:
    """What a program is compiled for: all static, the same for every candidate of a search.

    dtype: of the forward pass. chunk: candidates at once on a device. cache: dtype of the keys and values of what is
    written; None: that of the forward pass. folded: they run as one batch, and share what may be at once of tokens and
    logits.
    """

    config: DecoderConfig
    dtype: Any
    mesh: Mesh
    chunk: int
    cache: Any = None
    folded: bool = False

    @property
    def share(self) -> int:
        """How many candidates share the tokens of a micro-batch."""
        return self.chunk if self.folded else 1

    def head_block(self, tokens: int) -> int | None:
        """Rows of the head at once, for so many tokens of each candidate; None: as for one alone."""
        if not self.folded:
            return None
        # With the many tokens of a batch small blocks are as fast, and hold less.
        return vocabulary_block(self.config.vocab_size, 4 * self.chunk * tokens)

    @property
    def block(self) -> int:
        """Candidates of one call."""
        return self.mesh.shape[POP] * self.chunk


# tokens, valid, counted of a bucket, in micro-batches: `[M, rows, T]` each.
Rows = tuple[Array, Array, Array]


@partial(jax.jit, static_argnames="shape")
def likelihoods(
    shape: Shape, population: Population, values: Values, buckets: tuple[Rows, ...]
) -> tuple[Array, ...]:
    """Summed log-probability of the counted tokens of every row: for each bucket float32 `[block, M, rows]`.

    values: `[block, ...]`, the candidates' parameters.
    """

    def candidate(operands: tuple[Population, tuple[Rows, ...]], mine: Values) -> tuple[Array, ...]:
        population, buckets = operands
        weights = population.candidate(mine)

        def micro(rows: Rows) -> Array:
            size = shape.head_block(rows[0].size)
            return sequence_log_likelihood(weights, shape.config, *rows, dtype=shape.dtype, block_size=size)

        return tuple(each(micro, rows) for rows in buckets)

    return over_population(shape, candidate, (population, buckets), values)


@partial(jax.jit, static_argnames=("shape", "max_new_tokens", "stop_ids"))
def continuations(
    shape: Shape,
    population: Population,
    values: Values,
    buckets: tuple[Rows, ...],
    max_new_tokens: int,
    stop_ids: tuple[int, ...],
) -> tuple[Array, ...]:
    """Greedy continuation of every row: for each bucket int32 `[block, M, rows, max_new_tokens]`."""

    def candidate(operands: tuple[Population, tuple[Rows, ...]], mine: Values) -> tuple[Array, ...]:
        population, buckets = operands
        weights = population.resident(mine)

        def queue(rows: Rows) -> Array:
            # All prompts of a bucket wait for slots, so that a candidate is not held up by one long answer.
            tokens, valid = (array.reshape(-1, array.shape[-1]) for array in rows[:2])
            written = generate(
                weights,
                shape.config,
                tokens,
                valid,
                max_new_tokens=max_new_tokens,
                stop_ids=stop_ids,
                dtype=shape.dtype,
                cache=shape.cache,
            )
            return written.reshape(*rows[0].shape[:2], max_new_tokens)

        return tuple(map(queue, buckets))

    return over_population(shape, candidate, (population, buckets), values)


@jax.jit
def merged_parameters(merging: Merging, values: Values) -> Params:
    """One candidate's whole model, as it is scored. values: `[G, ...]`."""
    return materialised(merging.candidate(values))


@partial(jax.jit, static_argnames="shape")
def merged_block(shape: Shape, merging: Merging, values: Values) -> Params:
    """A block of whole models, `[block, ...]` by path. values: `[block, ...]`."""

    def candidate(merging: Merging, mine: Values) -> Params:
        return materialised(merging.candidate(mine))

    return over_population(shape, candidate, merging, values)


def each(micro: Callable[[Any], Tree], rows: Any) -> Tree:
    """`micro` of every micro-batch: the leading axis of `rows` and of what comes back."""
    if jax.tree.leaves(rows)[0].shape[0] == 1:
        return jax.tree.map(lambda array: array[None], micro(jax.tree.map(lambda array: array[0], rows)))
    return lax.map(micro, rows)


def over_population(shape: Shape, candidate: Callable[[Any, Any], Any], operands: Any, values: Any) -> Any:
    """Divides the leading axis of `values` over the mesh's `pop`. All of that have the same `operands`, or a share of
    what is split."""

    def on_device(operands: Any, mine: Any) -> Any:
        one = partial(candidate, operands)
        return lax.map(one, mine) if shape.chunk == 1 else jax.vmap(one)(mine)

    divided = PartitionSpec(POP)
    return over_pop(shape.mesh, on_device, (specs(operands), divided), divided)(operands, values)
