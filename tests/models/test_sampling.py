"""Sampling draws from the distribution that transformers' processors leave."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from jaxmerge.models.sampling import next_token

LOGITS = np.random.default_rng(0).normal(size=(1, 12)).astype(np.float32) * 2


@pytest.mark.parametrize(
    "options", [{}, {"top_k": 4}, {"top_p": 0.8}, {"top_k": 6, "top_p": 0.7}, {"top_p": 1e-6}, {"top_k": 50}]
)
def test_frequencies(options):
    warpers = [TemperatureLogitsWarper(1.3)]
    warpers += [TopKLogitsWarper(min(options["top_k"], 12))] if "top_k" in options else []
    warpers += [TopPLogitsWarper(options["top_p"])] if "top_p" in options else []
    scores = torch.tensor(LOGITS)
    for warper in warpers:
        scores = warper(torch.zeros(1, 1, dtype=torch.long), scores)
    want = torch.softmax(scores, -1)[0].numpy()
    draws = 20_000
    drawn = next_token(jnp.tile(LOGITS, (draws, 1)), jax.random.key(0), temperature=1.3, **options)
    got = np.bincount(drawn, minlength=12) / draws
    assert (got[want == 0] == 0).all()
    assert np.abs(got - want).max() < 5 * np.sqrt(0.25 / draws)


def test_greedy_takes_the_first_of_the_largest():
    logits = jnp.array([[0.0, 3.0, 3.0], [5.0, 1.0, 2.0]])
    assert next_token(logits, None, temperature=1.0).tolist() == [1, 0]
    assert next_token(logits, jax.random.key(0)).tolist() == [1, 0]
