"""The arc between two vectors: what of each is taken at a place between them."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import divided, sine


def arc(cosine: np.ndarray, straight: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of arcs, float32: the angle in radians, its sine, and where the arc is taken as a line.

    cosine: float64. straight: bool, of its shape.
    """
    angle = np.arccos(np.clip(cosine, -1.0, 1.0))
    statistics = {"angle": angle, "sine": np.where(straight, 1.0, np.sin(angle)), "straight": straight}
    return {name: np.asarray(array, np.float32) for name, array in statistics.items()}


def shares(t: Array, angle: Array, whole: Array, straight: Array) -> tuple[Array, Array]:
    """How much is taken of the first and of the second vector at t in [0, 1]. angle, whole, straight: see `arc`."""
    first = jnp.where(straight != 0, 1 - t, divided(sine((1 - t) * angle), whole))
    second = jnp.where(straight != 0, t, divided(sine(t * angle), whole))
    return first, second
