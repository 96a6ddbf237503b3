"""A candidate's result, as the search sees it and as `history.jsonl` records it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """score: higher is better, None where the candidate failed. tie: orders candidates of equal score.
    scores: by objective. seconds: the candidate's share of the evaluation's time. error: why it failed."""

    score: float | None
    tie: float
    scores: dict[str, float | None]
    seconds: float
    error: str | None = None
