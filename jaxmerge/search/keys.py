"""Random keys by name: what is drawn depends on the seed, the stage, the generation and the purpose alone."""

from zlib import crc32

import jax
import numpy as np
from jax import Array


def stage_key(seed: int, stage: str) -> Array:
    """The key of a stage of the search."""
    return jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), crc32(stage.encode()))


def draw_key(stage: Array, generation: int, purpose: str) -> Array:
    """The key for one purpose (`ask`, `tell`, `ties`) in one generation."""
    return jax.random.fold_in(jax.random.fold_in(stage, generation), crc32(purpose.encode()))


def host_seed(key: Array) -> list[int]:
    """A seed for NumPy's generator that is a function of the key alone."""
    return [int(word) for word in np.asarray(jax.random.key_data(key)).ravel()]


def host_random(key: Array) -> np.random.Generator:
    """NumPy's generator, seeded by a key."""
    return np.random.default_rng(host_seed(key))
