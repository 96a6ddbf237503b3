"""How sure a score is: 95% intervals over examples."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999


def interval(examples: np.ndarray, discrete: bool) -> tuple[float, float]:
    """The interval of a mean.

    examples: `[n]`, a score each. discrete: they are 0 or 1: Wilson's interval of a share; else a bias-corrected and
    accelerated (BCa) bootstrap with a fixed seed. Equal values, and one value, have both ends there; NaN gives NaN.
    """
    values = np.asarray(examples, np.float64)
    if discrete and len(values) and np.isfinite(values).all():
        share = stats.binomtest(int(values.sum()), len(values)).proportion_ci(CONFIDENCE, method="wilson")
        return (float(share.low), float(share.high))
    return weighted_interval([values], [1.0])


def paired_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """mean(a) - mean(b) over the same examples in the same order, with the BCa interval of the paired bootstrap."""
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    low, high = weighted_interval([differences], [1.0])
    return (float(differences.mean()) if np.isfinite(low) else np.nan, low, high)


def weighted_interval(samples: Sequence[np.ndarray], weights: Sequence[float]) -> tuple[float, float]:
    """The BCa interval of a weighted sum of means of samples that are drawn each for itself."""
    arrays = [np.asarray(sample, np.float64) for sample in samples]
    if not all(len(array) and np.isfinite(array).all() for array in arrays):
        return (np.nan, np.nan)
    pairs = list(zip(arrays, weights, strict=True))
    varying = [(array, weight) for array, weight in pairs if (array != array[0]).any()]
    # Resampling equal values gives the same values: they only shift the interval.
    shift = sum(weight * array[0] for array, weight in pairs if (array == array[0]).all())
    if not varying:
        return (float(shift), float(shift))

    def total(*resampled: np.ndarray, axis: int) -> np.ndarray:
        means = [weight * sample.mean(axis) for sample, (_, weight) in zip(resampled, varying, strict=True)]
        return np.sum(means, axis=0) + shift

    found = stats.bootstrap(
        [array for array, _ in varying],
        total,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        batch=max(1, 2_000_000 // max(len(array) for array, _ in varying)),  # bounds the memory
        rng=np.random.default_rng(0),
    ).confidence_interval
    return (float(found.low), float(found.high))
