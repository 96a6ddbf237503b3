"""Genomes live in the unit box; algorithms do not know it."""

import numpy as np


def reflect(genomes: np.ndarray) -> np.ndarray:
    """Points folded back into `[0, 1]^d` at its walls, as often as needed: float32, same shape.

    What is folded is what is evaluated, recorded and told.
    """
    folded = np.mod(np.asarray(genomes, np.float64), 2.0)
    return np.where(folded > 1.0, 2.0 - folded, folded).astype(np.float32)
