"""Entropies equal those of all logits at once, in every block size, and so do their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from miniature import batch, miniature

from jaxmerge.models.decoder import logits
from jaxmerge.models.entropy import Spread, _moved, _together, sequence_entropy
from jaxmerge.models.weights import Stored
from jaxmerge.objectives.interface import Bucket, Reference
from jaxmerge.population.programs import merged_parameters


@pytest.fixture(scope="module")
def world():
    programs, space = miniature("task_arithmetic")
    return programs, space.decode(np.random.default_rng(3).random((2, space.dimension), dtype=np.float32))


def plain(weights, config, bucket: Bucket):
    every = jax.nn.log_softmax(logits(weights, config, bucket.tokens, bucket.valid, dtype=jnp.float32))[:, :-1]
    entropy = -(jnp.exp(every) * every).sum(axis=-1)
    return jnp.where(bucket.counted[:, 1:], entropy, 0).sum(axis=-1)


def test_candidates_have_the_entropy_of_all_logits_whatever_the_blocks(world) -> None:
    programs, values = world
    config, data = programs.shape.config, batch(((3, 8),))
    [bucket] = data.buckets
    got = programs.candidates(values).entropy(data)
    for index in range(2):
        one = {name: array[index] for name, array in values.items()}
        model = Stored(merged_parameters(programs.population, one))
        want = plain(model, config, bucket)
        np.testing.assert_allclose(got[index], want, rtol=1e-5)
        rows = (bucket.tokens, bucket.valid, bucket.counted)
        blocks = jax.jit(lambda w: sequence_entropy(w, config, *rows, dtype=jnp.float32, block_size=10))(model)  # noqa: B023
        np.testing.assert_allclose(blocks, want, rtol=1e-5)
    assert (got > 0).all() and (got < bucket.counted.sum(axis=1) * np.log(config.vocab_size)).all()


def test_gradient_is_that_of_the_plain_formula(world) -> None:
    programs, values = world
    one = {name: jnp.asarray(array[0]) for name, array in values.items()}
    data = batch(((3, 8),))
    shares = np.array([-0.2, -0.5, -0.1], np.float32)
    sum, by_value = programs.gradient(one, Reference(data, shares, quantity="entropy"))

    def score(weight):
        model = programs.population.candidate(one | {"weight": weight})
        return (shares * plain(model, programs.shape.config, data.buckets[0])).sum()

    want, by_weight = jax.jit(jax.value_and_grad(score))(one["weight"])
    np.testing.assert_allclose(sum, want, rtol=1e-5)
    np.testing.assert_allclose(by_value["weight"], by_weight, atol=1e-5)


def test_parts_of_a_divided_vocabulary_come_together() -> None:
    scores = jnp.asarray(np.random.default_rng(0).normal(0, 30, (2, 5, 7)), jnp.float32)
    largest = scores.max(axis=-1)
    below = scores - largest[..., None]
    parts = Spread(largest, jnp.exp(below).sum(-1), (jnp.exp(below) * below).sum(-1))
    whole = _together(_moved(parts, largest + 3))
    every = jax.nn.log_softmax(jnp.concatenate(list(scores), axis=-1))
    got = jnp.log(whole.total) - whole.below / whole.total
    np.testing.assert_allclose(got, -(jnp.exp(every) * every).sum(-1), atol=1e-5)
