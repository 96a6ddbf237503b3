"""The compiled programs of candidates whose sources lie on the host: one for a layer, a few for what is in none.

A piece of the sources comes to the devices once and is merged and used for every candidate while the streams of all of
them wait. What is computed for a candidate is what `programs.likelihoods` computes, piece by piece.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxmerge.architectures.table import LAYERS
from jaxmerge.models.block import rms_norm
from jaxmerge.models.decoder import layer_step
from jaxmerge.models.likelihood import Running, finished, nothing_yet, with_block
from jaxmerge.models.weights import Params, Stored, Weights
from jaxmerge.population.merged import Merging, Values
from jaxmerge.population.programs import Shape, each, over_population

# Of each bucket, for a block of candidates: `[block, M, rows, T, hidden]`.
Streams = tuple[Array, ...]
EMBEDDING = "embed_tokens.weight"
NORM = "norm.weight"


@partial(jax.jit, static_argnames="shape")
def embedded(shape: Shape, piece: Merging, values: Values, ids: Array, places: tuple[Array, ...]) -> Streams:
    """What goes into the first layer. piece: rows `ids`, uint32 `[U]`, of the embedding. places: which of them each
    token is, int32 `[M, rows, T]` of each bucket."""

    def candidate(operands: Any, mine: Values) -> Streams:
        piece, ids, places = operands
        rows = piece.candidate(mine).held(EMBEDDING, rows=ids).astype(shape.dtype)
        scale = shape.config.embed_scale
        return tuple(
            rows[place] if scale is None else rows[place] * jnp.asarray(scale, shape.dtype) for place in places
        )

    return over_population(shape, candidate, (piece, ids, places), values)


@partial(jax.jit, static_argnames="shape", donate_argnames="streams")
def through_layer(
    shape: Shape, piece: Merging, values: Values, index: Array, valid: tuple[Array, ...], streams: Streams
) -> Streams:
    """The streams after layer `index`, of which `piece` holds the sources. It is merged once a candidate.

    valid: bool `[M, rows, T]` of each bucket.
    """

    def candidate(operands: Any, mine: tuple[Values, Streams]) -> Streams:
        piece, index, valid = operands
        layer = {path: array.astype(shape.dtype) for path, array in _layer(piece, mine[0], index).items()}

        def micro(rows: tuple[Array, Array]) -> Array:
            valid, x = rows
            return layer_step(shape.config, valid)(layer, index, x)

        return tuple(each(micro, rows) for rows in zip(valid, mine[1], strict=True))

    return over_population(shape, candidate, (piece, index, valid), (values, streams))


@partial(jax.jit, static_argnames="shape")
def normed(shape: Shape, piece: Merging, values: Values, streams: Streams) -> tuple[tuple[Array, Running], ...]:
    """Of each bucket the streams after the final norm without their last column, `[block, M, N, hidden]` of
    `N = rows * (T - 1)` positions, and what is known of their likelihood before the first row of the head."""

    def candidate(piece: Merging, mine: tuple[Values, Streams]) -> tuple[tuple[Array, Running], ...]:
        weight = piece.candidate(mine[0]).held(NORM).astype(shape.dtype)

        def micro(x: Array) -> tuple[Array, Running]:
            x = rms_norm(x, weight, shape.config)[:, :-1].reshape(-1, x.shape[-1])
            return x, nothing_yet(x.shape[:1])

        return tuple(each(micro, x) for x in mine[1])

    return over_population(shape, candidate, piece, (values, streams))


@partial(jax.jit, static_argnames=("shape", "path", "size"), donate_argnames="running")
def with_rows(
    shape: Shape,
    path: str,
    size: int,
    piece: Merging,
    values: Values,
    first: Array,
    tokens: Array,
    x: Array,
    running: Running,
) -> Running:
    """With a block of the head's rows, from row `first` on: `[block, M, N]` each, of one bucket.

    path: the head's. size: how many rows. piece: these rows, the last ones moved back to end with the vocabulary, or
    all of them where the operator cannot merge some. tokens: `[M, rows, T]`. x: see `normed`.
    """

    def candidate(operands: Any, mine: Any) -> Running:
        (piece, first, tokens), (values, x, running) = operands, mine
        vocab = shape.config.vocab_size
        start = jnp.minimum(first, vocab - size)
        one = piece.candidate(values)
        if piece.operator.scope == "tensor":
            rows = lax.dynamic_slice_in_dim(one.held(path), start, size)
        else:
            rows = one.held(path, rows=start.astype(jnp.uint32) + jnp.arange(size, dtype=jnp.uint32))
        rows = rows.astype(shape.dtype)

        def micro(mine: tuple[Array, Array, Running]) -> Running:
            tokens, x, running = mine
            return with_block(running, x, tokens[:, 1:].reshape(-1), rows, first, vocab)

        return each(micro, (tokens, x, running))

    return over_population(shape, candidate, (piece, first, tokens), (values, x, running))


@jax.jit
def sums(running: Running, counted: Array) -> Array:
    """Summed log-probability of the counted tokens: float32 `[block, M, rows]`. counted: bool `[M, rows, T]`."""
    micros, rows, length = counted.shape
    per_token = finished(running).reshape(-1, micros, rows, length - 1)
    return jnp.where(counted[:, :, 1:], per_token, 0.0).sum(axis=-1)


@partial(jax.jit, static_argnames="shape", donate_argnames="models")
def written_layer(shape: Shape, piece: Merging, values: Values, index: Array, models: Params) -> Params:
    """A block of whole models, `[block, L, ...]` by path, with the layer that `piece` holds merged into them."""

    def candidate(operands: Any, mine: tuple[Values, Params]) -> Params:
        piece, index = operands
        layer = _layer(piece, mine[0], index)
        return {
            path: lax.dynamic_update_index_in_dim(whole, layer[path.removeprefix(LAYERS)], index, 0)
            for path, whole in mine[1].items()
        }

    return over_population(shape, candidate, (piece, index), (values, models))


@partial(jax.jit, static_argnames=("shape", "path"))
def written(shape: Shape, path: str, piece: Merging, values: Values) -> Array:
    """A tensor that is in no layer, of a block of models: `[block, ...]`."""

    def candidate(piece: Merging, mine: Values) -> Array:
        return piece.candidate(mine).held(path)

    return over_population(shape, candidate, piece, values)


@jax.tree_util.register_static
class Written:
    """Whole models as the values of candidates; implements `programs.Population`."""

    def candidate(self, values: Values) -> Weights:
        return Stored(values)

    def resident(self, values: Values) -> Weights:
        return Stored(values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Written)

    def __hash__(self) -> int:
        return hash(Written)


def _layer(piece: Merging, values: Values, index: Array) -> Params:
    one = piece.candidate(values)
    return {path.removeprefix(LAYERS): one.held(path, index) for path in piece.bank.experts}
