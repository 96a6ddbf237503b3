"""Log-likelihoods equal transformers', in every block size, with each block of the head fetched once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxmerge.models.decoder import logits
from jaxmerge.models.likelihood import sequence_log_likelihood, vocabulary_block
from jaxmerge.models.weights import Stored

ROWS = [np.random.default_rng(i).integers(3, 211, n).astype(np.int32) for i, n in enumerate((2, 11, 24))]


def batch(side: str, width: int):
    tokens, valid = np.zeros((len(ROWS), width), np.int32), np.zeros((len(ROWS), width), bool)
    for i, row in enumerate(ROWS):
        at = slice(width - len(row), None) if side == "left" else slice(0, len(row))
        tokens[i, at], valid[i, at] = row, True
    counted = valid & (np.cumsum(valid, axis=1) > 1)
    return tokens, valid, counted


def expected(model) -> list[float]:
    with torch.no_grad():
        each = [torch.log_softmax(model(torch.tensor(row[None]).long()).logits[0], -1) for row in ROWS]
    return [p[range(len(row) - 1), row[1:]].sum().item() for p, row in zip(each, ROWS, strict=True)]


@pytest.mark.parametrize("tied", [False, True])
def test_equals_transformers_whatever_the_padding_and_the_blocks(tied, make_model, ours):
    model = make_model("llama", tie_word_embeddings=tied)
    config, params = ours(model)
    want = expected(model)

    def score(side, width, block_size):
        inputs = batch(side, width)
        run = jax.jit(
            lambda p, *a: sequence_log_likelihood(Stored(p), config, *a, dtype=jnp.float32, block_size=block_size)
        )
        return np.asarray(run(params, *inputs))

    for case in [("right", 24, None), ("left", 31, 64), ("right", 40, 150)]:
        np.testing.assert_allclose(score(*case), want, rtol=2e-6)


def test_each_block_is_fetched_once_and_covers_the_vocabulary(make_model, ours):
    config, params = ours(make_model("llama"))
    fetched = []

    class Recording(Stored):
        def block(self, path, start, size):
            jax.debug.callback(lambda at: fetched.append((path, int(at), size)), start)
            return super().block(path, start, size)

    run = jax.jit(
        lambda: sequence_log_likelihood(
            Recording(params), config, *batch("right", 24), dtype=jnp.float32, block_size=60
        )
    )
    run().block_until_ready()
    jax.effects_barrier()
    assert sorted(fetched) == [("lm_head.weight", start, 60) for start in (0, 60, 120, 151)]


@pytest.mark.parametrize("vocab", [158, 32000, 49152, 151936])
@pytest.mark.parametrize("positions", [1, 512, 4096, 65536])
def test_blocks_are_nearly_equal_and_bounded(vocab, positions):
    size = vocabulary_block(vocab, positions)
    assert size <= max(2**24 // positions, 1024)
    assert 0 <= -(-vocab // size) * size - vocab < -(-vocab // size)


def test_gradient_is_that_of_the_plain_formula(make_model, ours):
    config, params = ours(make_model("qwen3", head_dim=16, tie_word_embeddings=True, num_hidden_layers=1))
    tokens, valid, counted = batch("right", 24)

    def blocked(p):
        return sequence_log_likelihood(
            Stored(p), config, tokens, valid, counted, dtype=jnp.float32, block_size=50
        ).sum()

    def plain(p):
        every = jax.nn.log_softmax(logits(Stored(p), config, tokens, valid, dtype=jnp.float32))[:, :-1]
        chosen = jnp.take_along_axis(every, jnp.asarray(tokens)[:, 1:, None], axis=-1)[..., 0]
        return jnp.where(counted[:, 1:], chosen, 0).sum()

    got, want = jax.jit(jax.grad(blocked))(params), jax.jit(jax.grad(plain))(params)
    for path in want:
        np.testing.assert_allclose(got[path], want[path], atol=2e-5 * float(jnp.abs(want[path]).max()) + 1e-7)
