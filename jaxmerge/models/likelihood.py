"""Log-likelihood of tokens without ever holding all logits: a running log-sum-exp over blocks of the vocabulary.

Each block of the head is fetched once a call, for all positions, because fetching may mean merging.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.decoder import head_path, hidden_states, scores_of
from jaxmerge.models.weights import Matrix, Weights

Tree = TypeVar("Tree")

LOGITS_AT_ONCE = 2**24
SMALLEST_BLOCK = 1024


def sequence_log_likelihood(
    weights: Weights,
    config: DecoderConfig,
    tokens: Array,
    valid: Array,
    counted: Array,
    *,
    dtype: DTypeLike,
    block_size: int | None = None,
) -> Array:
    """Sum of the log-probabilities, in nats, of the counted tokens of each sequence: float32 `[B]`.

    tokens int32, valid and counted bool, all `[B, T]`; counted is False at padding and at the first valid token.
    block_size: rows of the head at once; by default as many as keep the logits in memory at 2^24.
    """
    per_token = token_log_likelihood(weights, config, tokens, valid, dtype=dtype, block_size=block_size)
    return jnp.where(counted[:, 1:], per_token, 0.0).sum(axis=-1)


def token_log_likelihood(
    weights: Weights,
    config: DecoderConfig,
    tokens: Array,
    valid: Array,
    *,
    dtype: DTypeLike,
    block_size: int | None = None,
) -> Array:
    """Log-probability, in nats, of every token but the first column, given those before it: float32 `[B, T - 1]`.

    Entries at padding and at the first valid token mean nothing.
    """
    x = hidden_states(weights, config, tokens, valid, dtype=dtype)[:, :-1]
    targets = tokens[:, 1:]
    flat = _log_likelihood(
        weights, config, x.reshape(-1, config.hidden_size), targets.reshape(-1), block_size=block_size
    )
    return flat.reshape(targets.shape)


def vocabulary_block(vocab_size: int, positions: int) -> int:
    """Rows of the head to handle at once: blocks of nearly equal size with at most about 2^24 logits."""
    largest = max(LOGITS_AT_ONCE // max(positions, 1), SMALLEST_BLOCK)
    blocks = -(-vocab_size // largest)
    return -(-vocab_size // blocks)


def _log_likelihood(
    weights: Weights, config: DecoderConfig, x: Array, targets: Array, *, block_size: int | None
) -> Array:
    """x `[N, hidden]`, targets int32 `[N]`: log-probability of each target, float32 `[N]`."""

    def add(running: Running, rows: Array, first: Array, vocab: int, begin: Array | int) -> Running:
        return with_block(running, x, targets, rows, first, vocab, begin)

    return finished(over_head(weights, config, x, nothing_yet, add, _together, block_size=block_size))


def over_head(
    weights: Weights,
    config: DecoderConfig,
    x: Array,
    nothing: Callable[[tuple[int, ...]], Tree],
    add: Callable[[Tree, Array, Array, int, Array | int], Tree],
    together: Callable[[Tree], Tree],
    *,
    block_size: int | None,
) -> Tree:
    """What is gathered over all rows of the head for hidden states x `[N, hidden]`, block by block.

    nothing: of a shape, before the first block. add: see `with_block`, without what it knows of x. together: of all
    parts of a vocabulary that is divided, whose axis comes first.
    """
    # Where the vocabulary is divided, its parts go side by side: what follows is of each, and only the sums meet.
    shards = weights.vocabulary_shards
    vocab = config.vocab_size // shards
    size = min(block_size or vocabulary_block(vocab, x.shape[0]), vocab)
    path = head_path(config)

    # Recomputed in the backward pass, which would otherwise keep the logits of every block.
    @jax.checkpoint
    def step(running: Tree, first: Array) -> tuple[Tree, None]:
        rows = weights.block(path, jnp.minimum(first, vocab - size), size).astype(x.dtype)
        if shards == 1:
            return add(running, rows, first, vocab, 0), None
        begins = vocab * jnp.arange(shards, dtype=jnp.int32)
        return jax.vmap(add, (0, 0, None, None, 0))(running, rows, first, vocab, begins), None

    carry = nothing(x.shape[:1] if shards == 1 else (shards, *x.shape[:1]))
    firsts = jnp.arange(0, vocab, size, dtype=jnp.int32)
    if len(firsts) == 1:
        carry, _ = step(carry, firsts[0])
    else:
        carry, _ = lax.scan(step, carry, firsts)
    return carry if shards == 1 else together(carry)


class Running(NamedTuple):
    """Over the rows of the head seen so far, float32 `[N]` each: the largest logit, the sum of `exp(logit - largest)`,
    and the target's logit where it was among them."""

    largest: Array
    total: Array
    target: Array


def nothing_yet(shape: tuple[int, ...]) -> Running:
    return Running(jnp.full(shape, jnp.finfo(jnp.float32).min), jnp.zeros(shape), jnp.zeros(shape))


def with_block(
    running: Running,
    x: Array,
    targets: Array,
    rows: Array | Matrix,
    first: Array,
    vocab: int,
    begin: Array | int = 0,
) -> Running:
    """With a block of the head. x `[N, hidden]`, targets int32 `[N]`. rows: `[size, hidden]` from row `first` on of the
    `vocab` rows of a part of the vocabulary, which begins with token `begin`.

    The last block is moved back to end with the part; its rows of the block before are not counted again.
    """
    size = rows.shape[0]
    start = jnp.minimum(first, vocab - size)
    logits = block_logits(x, rows, first, vocab)
    largest = jnp.maximum(running.largest, lax.stop_gradient(logits.max(axis=-1)))
    total = running.total * jnp.exp(running.largest - largest) + jnp.exp(logits - largest[:, None]).sum(axis=-1)
    wanted = targets - begin
    inside = (wanted >= first) & (wanted < jnp.minimum(first + size, vocab))
    local = jnp.clip(wanted - start, 0, size - 1)
    found = jnp.take_along_axis(logits, local[:, None], axis=-1)[:, 0]
    return Running(largest, total, jnp.where(inside, found, running.target))


def block_logits(x: Array, rows: Array | Matrix, first: Array, vocab: int) -> Array:
    """Of a block of the head, see `with_block`: float32 `[N, size]`, -inf for rows of the block before."""
    size = rows.shape[0]
    logits = scores_of(x, rows)
    if vocab % size:
        logits = jnp.where(jnp.minimum(first, vocab - size) + jnp.arange(size) >= first, logits, -jnp.inf)
    return logits


def finished(running: Running) -> Array:
    """Log-probability of each target: float32 `[N]`."""
    return running.target - running.largest - jnp.log(running.total)


def _together(parts: Running) -> Running:
    """Of all parts of the vocabulary, whose axis comes first. A target's logit is in one part, and zero in the
    others."""
    largest = parts.largest.max(axis=0)
    total = (parts.total * jnp.exp(parts.largest - largest)).sum(axis=0)
    return Running(largest, total, parts.target.sum(axis=0))
