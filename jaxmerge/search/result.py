"""A candidate's result, as the search sees it and as `history.jsonl` records it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Result:
    """score: higher is better, None where the candidate failed. tie: orders candidates of equal score.
    scores: by objective. seconds: the candidate's share of the evaluation's time. error: why it failed."""

    score: float | None
    tie: float
    scores: dict[str, float | None]
    seconds: float
    error: str | None = None


# A population of genomes, float32 `[P, d]` in the unit box, to P results.
Evaluate = Callable[[np.ndarray], list[Result]]
