"""Item response theory: how able a model is, and how hard and how telling an example.

The two-parameter logistic model gives the probability that a model of ability t gets example j right as

    P = sigmoid(a_j t - d_j)

a: how well the example tells the able from the others, d: how hard it is. Once both are known from models that answered
everything, a few answers tell a new model's ability, and with it the score on what it was not asked (tinyBenchmarks,
Polo et al. 2024; MERGE3, Mencattini et al. 2025, for merges). A response may be any number from 0 to 1.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxmerge.search.host import on_host

STEPS, RATE = 500, 0.05
# Standard deviations of the priors: abilities have 1; log a, and d.
TELLING, HARD = 0.5, 2.0
# Models are filled up to a multiple, so that one more of them compiles nothing.
ROOM = 16
NEWTON = 20


@dataclass(frozen=True)
class Items:
    """Examples: `telling` (a) and `hard` (d), float64 `[N]`."""

    telling: np.ndarray
    hard: np.ndarray

    def chances(self, abilities: np.ndarray) -> np.ndarray:
        """The probability of a right answer, `[P, N]`. abilities: `[P]`."""
        return 1 / (1 + np.exp(self.hard - np.asarray(abilities)[:, None] * self.telling))

    def abilities(self, responses: np.ndarray) -> np.ndarray:
        """The most probable ability of each model, float64 `[P]`, under a standard normal prior: Newton's method.
        responses: `[P, N]` from 0 to 1, NaN where a model was not asked."""
        asked = np.isfinite(responses)
        given = np.where(asked, responses, 0.0).astype(np.float64)
        found = np.zeros(len(given))
        for _ in range(NEWTON):
            chance = self.chances(found)
            slope = (np.where(asked, given - chance, 0.0) * self.telling).sum(axis=1) - found
            bend = (np.where(asked, chance * (1 - chance), 0.0) * self.telling**2).sum(axis=1) + 1
            found = found + np.clip(slope / bend, -1, 1)
        return found

    def information(self, ability: float) -> np.ndarray:
        """What each example tells of an ability near this one: Fisher's, float64 `[N]`."""
        [chance] = self.chances(np.array([ability]))
        return self.telling**2 * chance * (1 - chance)


def fit(responses: np.ndarray) -> Items:
    """The examples' parameters with the highest posterior, by Adam. responses: `[M, N]` from 0 to 1, of M models that
    were asked everything."""
    models, examples = responses.shape
    padded = np.zeros((-(-models // ROOM) * ROOM, examples), np.float32)
    padded[:models] = responses
    with on_host():
        telling, hard = jax.device_get(_fit(padded, np.arange(len(padded)) < models))
    return Items(telling.astype(np.float64), hard.astype(np.float64))


@jax.jit
def _fit(responses: Array, real: Array) -> tuple[Array, Array]:
    share = jnp.where(real[:, None], responses, 0).sum(axis=0) / real.sum()
    own = responses.mean(axis=1)
    start = {
        "ability": _logit(own) * real,
        "telling": jnp.zeros(responses.shape[1]),
        "hard": -_logit(share),
    }
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, STEPS))

    def loss(values: dict[str, Array]) -> Array:
        logits = jnp.exp(values["telling"]) * values["ability"][:, None] - values["hard"]
        misfit = jnp.where(real[:, None], optax.sigmoid_binary_cross_entropy(logits, responses), 0).sum()
        priors = [values["ability"], values["telling"] / TELLING, values["hard"] / HARD]
        return misfit + sum(0.5 * jnp.square(prior).sum() for prior in priors)

    def step(_: int, carry: tuple[Any, Any]) -> tuple[Any, Any]:
        values, state = carry
        updates, state = optimizer.update(jax.grad(loss)(values), state)
        return optax.apply_updates(values, updates), state

    values, _ = jax.lax.fori_loop(0, STEPS, step, (start, optimizer.init(start)))
    return jnp.exp(values["telling"]), values["hard"]


def _logit(share: Array) -> Array:
    kept = jnp.clip(share, 0.02, 0.98)
    return jnp.log(kept) - jnp.log1p(-kept)
