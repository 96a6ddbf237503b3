"""A candidate's result, as the search sees it and as `history.jsonl` records it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Result:
    """score: higher is better, None where the candidate failed. tie: orders candidates of equal score.
    scores: by objective. seconds: the candidate's share of the evaluation's time. error: why it failed.
    examples: float32 `[N]` an objective, higher is better, where the engine gives them; the history does not record
    them. Of a block of examples `[N]` is the whole split, with NaN for what is not in the block.

    Only a cheap evaluation says more, and the history records it. Score and tie-breaker are then means over what was
    seen.
    seen: float32 `[N]` an objective, the scores of the search data's examples, NaN for those not seen.
    left: after how many blocks the candidate left its race; None: it stayed.
    estimate: what the score on all examples is predicted to be; it decides instead of the score.
    gradient: float32 `[d]`, by which genes the log-likelihood of the reference answers rises, where it was asked for.
    forwards: what it cost, see `costs`, where that is not one; the history records it.

    Where a surrogate screens, the history records too:
    drawn: which of a generation's draws the candidate is; the last is their mean. predicted: its score as predicted.
    """

    score: float | None
    tie: float
    scores: dict[str, float | None]
    seconds: float
    error: str | None = None
    examples: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)
    gradient: np.ndarray | None = field(default=None, compare=False, repr=False)
    seen: Mapping[str, np.ndarray] | None = field(default=None, compare=False, repr=False)
    left: int | None = None
    estimate: float | None = None
    forwards: float | None = None
    drawn: int | None = None
    predicted: float | None = None

    @property
    def complete(self) -> bool:
        """Whether no example was left out."""
        seen = (self.seen or {}).values()
        return self.left is None and all(np.isfinite(values).all() for values in seen)

    @property
    def final(self) -> bool:
        """Whether the score is over everything that the search scores a candidate on, and not over the first few."""
        return self.left is None and self.estimate is None
