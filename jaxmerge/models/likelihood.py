"""Log-likelihood of tokens without ever holding all logits: a running log-sum-exp over blocks of the vocabulary.

Each block of the head is fetched once a call, for all positions, because fetching may mean merging.
"""

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.models.attention import PRECISION
from jaxmerge.models.decoder import head_path, hidden_states
from jaxmerge.models.weights import Weights

LOGITS_AT_ONCE = 2**24
SMALLEST_BLOCK = 1024
# Of each position the largest logit so far, the sum of exp(logit - largest), and the logit of its target: `[N]`.
Sums = tuple[Array, Array, Array]


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
    # Where the vocabulary is divided, its parts go side by side: what follows is of each, and only the sums meet.
    shards = weights.vocabulary_shards
    vocab = config.vocab_size // shards
    size = min(block_size or vocabulary_block(vocab, x.shape[0]), vocab)
    path = head_path(config)

    def grown(carry: Sums, rows: Array, begin: Array, start: Array, first: Array) -> Sums:
        """The sums with those of a block. begin: the token of the part's first row."""
        largest, total, target_logit = carry
        logits = jnp.einsum("nd,vd->nv", x, rows, precision=PRECISION, preferred_element_type=jnp.float32)
        if vocab % size:
            logits = jnp.where(start + jnp.arange(size) >= first, logits, -jnp.inf)
        new_largest = jnp.maximum(largest, lax.stop_gradient(logits.max(axis=-1)))
        total = total * jnp.exp(largest - new_largest) + jnp.exp(logits - new_largest[:, None]).sum(axis=-1)
        wanted = targets - begin
        inside = (wanted >= first) & (wanted < jnp.minimum(first + size, vocab))
        local = jnp.clip(wanted - start, 0, size - 1)
        found = jnp.take_along_axis(logits, local[:, None], axis=-1)[:, 0]
        return new_largest, total, jnp.where(inside, found, target_logit)

    # Recomputed in the backward pass, which would otherwise keep the logits of every block.
    @jax.checkpoint
    def step(carry: Sums, first: Array) -> tuple[Sums, None]:
        # The last block is moved back to end with the vocabulary; rows of the block before it are not counted again.
        start = jnp.minimum(first, vocab - size)
        rows = weights.block(path, start, size).astype(x.dtype)
        if shards == 1:
            return grown(carry, rows, jnp.int32(0), start, first), None
        begins = vocab * jnp.arange(shards, dtype=jnp.int32)
        return jax.vmap(grown, (0, 0, 0, None, None))(carry, rows, begins, start, first), None

    shape = targets.shape if shards == 1 else (shards, *targets.shape)
    carry = (jnp.full(shape, jnp.finfo(jnp.float32).min), jnp.zeros(shape), jnp.zeros(shape))
    firsts = jnp.arange(0, vocab, size, dtype=jnp.int32)
    if len(firsts) == 1:
        carry, _ = step(carry, firsts[0])
    else:
        carry, _ = lax.scan(step, carry, firsts)
    largest, total, target_logit = carry if shards == 1 else _together(carry)
    return target_logit - largest - jnp.log(total)


def _together(sums: Sums) -> Sums:
    """The sums of all parts of the vocabulary, whose axis comes first. A target's logit is in one part, and zero in the
    others."""
    largest, total, target_logit = sums
    most = largest.max(axis=0)
    return most, (total * jnp.exp(largest - most)).sum(axis=0), target_logit.sum(axis=0)
