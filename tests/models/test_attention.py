"""Attention in blocks of queries is the same attention, with less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxmerge.models.attention import attend, visible


def inputs(batch: int, length: int, heads: int, groups: int, dim: int) -> tuple[jax.Array, ...]:
    keys = jax.random.split(jax.random.key(0), 3)
    query = jax.random.normal(keys[0], (batch, length, heads, dim))
    key, value = (jax.random.normal(k, (batch, groups, length, dim)) for k in keys[1:])
    positions = jnp.broadcast_to(jnp.arange(length), (batch, length))
    valid = positions >= jnp.arange(batch)[:, None]
    return query, key, value, visible(positions, positions, valid, 9)


@pytest.mark.parametrize("rows", [1, 4, 5, 12])
def test_blocks_of_queries_give_the_same(rows: int) -> None:
    batch, length, heads, groups, dim = 2, 12, 4, 2, 8
    operands = inputs(batch, length, heads, groups, dim)
    whole = attend(*operands)
    parts = attend(*operands, at_once=rows * batch * heads * length)
    seen = np.asarray(operands[3]).any(-1)
    np.testing.assert_allclose(parts[seen], whole[seen], atol=1e-6)
    assert np.isfinite(parts).all()


def test_long_texts_do_not_hold_all_scores() -> None:
    operands = inputs(1, 256, 8, 2, 4)
    scores = 8 * 256 * 256 * 4

    def temporary(at_once: int) -> int:
        compiled = jax.jit(lambda *o: attend(*o, at_once=at_once)).lower(*operands).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary(2**26) >= scores
    assert temporary(8 * 256 * 32) < scores / 2
