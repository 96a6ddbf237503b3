"""What is smooth in every example's score, to first order around a genome."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Linearised:
    """At genome g, float32 `[d]`, example n of an objective has `values[n] + slopes[n] @ (g - genome)`.

    values: `[N]`, slopes: `[N, d]`, float64, by objective: the mean log-probability of the reference answer's tokens,
    or minus the mean entropy of predictions. scores: for each objective whether these are its examples' own scores.
    seconds: what it took.
    """

    genome: np.ndarray
    values: Mapping[str, np.ndarray]
    slopes: Mapping[str, np.ndarray]
    scores: Mapping[str, bool]
    seconds: float = 0.0

    def at(self, genomes: np.ndarray) -> dict[str, np.ndarray]:
        """By objective `[A, N]`, of genomes `[A, d]`."""
        moved = genomes.astype(np.float64) - self.genome
        return {name: values + moved @ self.slopes[name].T for name, values in self.values.items()}
