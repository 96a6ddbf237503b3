"""A candidate's result, as the search sees it and as `history.jsonl` records it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Result:
    """score: higher is better, None where the candidate failed. tie: orders candidates of equal score.
    scores: by objective. seconds: the candidate's share of the evaluation's time. error: why it failed.
    examples: float32 `[N]` an objective, higher is better, where the engine gives them; the history does not record
    them."""

    score: float | None
    tie: float
    scores: dict[str, float | None]
    seconds: float
    error: str | None = None
    examples: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)
