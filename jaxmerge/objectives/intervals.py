"""How sure a score is: 95% intervals over examples."""

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 9999


def interval(examples: np.ndarray, discrete: bool) -> tuple[float, float]:
    """The interval of a mean.

    examples: `[n]`, a score each. discrete: they are 0 or 1: Wilson's interval of a share; else a
    bias-corrected and accelerated (BCa) bootstrap with a fixed seed. Equal values, and one value, have both
    ends there; NaN gives NaN."""
    values = np.asarray(examples, np.float64)
    if not np.isfinite(values).all() or not len(values):
        return (np.nan, np.nan)
    if discrete:
        share = stats.binomtest(int(values.sum()), len(values)).proportion_ci(CONFIDENCE, method="wilson")
        return (float(share.low), float(share.high))
    return _bootstrap(values)


def paired_difference(a: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """mean(a) - mean(b) over the same examples in the same order, with the BCa interval of the paired
    bootstrap."""
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    if not np.isfinite(differences).all() or not len(differences):
        return (np.nan, np.nan, np.nan)
    return (float(differences.mean()), *_bootstrap(differences))


def _bootstrap(values: np.ndarray) -> tuple[float, float]:
    if (values == values[0]).all():
        return (float(values[0]), float(values[0]))
    found = stats.bootstrap(
        (values,),
        np.mean,
        confidence_level=CONFIDENCE,
        n_resamples=RESAMPLES,
        method="BCa",
        batch=max(1, 2_000_000 // len(values)),  # bounds the memory
        rng=np.random.default_rng(0),
    ).confidence_interval
    return (float(found.low), float(found.high))
