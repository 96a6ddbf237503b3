"""Several objectives as one score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.interface import Block, Objective, Runner, Scored
from jaxmerge.objectives.once import Once


@dataclass(frozen=True)
class Scores:
    """What P models scored.

    scores: float64 `[P]`, the weighted mean over objectives, weights normalised to sum 1; NaN for a model
    that failed.
    ties: float64 `[P]`, the tie-breakers' weighted mean likewise.
    by_objective: float64 `[P]` a name. scored: everything an objective gave back, by name.
    errors: why a model failed, or None.
    """

    scores: np.ndarray
    ties: np.ndarray
    by_objective: dict[str, np.ndarray]
    scored: dict[str, Scored]
    errors: list[str | None]


def score_all(
    objectives: Sequence[Objective], runner: Runner, split: str, draw: int | None = None, block: Block | None = None
) -> Scores:
    """Score the runner's models on every objective; those that ask the same of the models share the answer.

    split, draw, block: see `interface.Objective.score`.

    A model with any score that is not finite fails: its `scores` is NaN, and so that it can be ordered its
    tie is 0."""
    if len(objectives) > 1:
        ours = [objective for objective in objectives if isinstance(objective, PreparedObjective)]
        batches = [objective.texts(split, draw, block) for objective in ours]
        runner = Once(runner)
        runner.ask_together([batch for batch in batches if batch is not None])
    # Outside of a race an objective of the user's own need not know of blocks.
    part = {} if block is None else {"block": block}
    scored = {objective.name: objective.score(runner, split, draw, **part) for objective in objectives}
    weights = np.array([objective.weight for objective in objectives], np.float64)
    weights /= weights.sum()
    by_objective = {name: result.examples.mean(axis=1, dtype=np.float64) for name, result in scored.items()}
    scores = weights @ np.stack(list(by_objective.values()))
    ties = weights @ np.stack([result.ties.astype(np.float64) for result in scored.values()])
    failed = ~np.isfinite(scores)
    errors = [_why(scored, by_objective, model) if failed[model] else None for model in range(runner.size)]
    scores, ties = np.where(failed, np.nan, scores), np.where(np.isfinite(ties), ties, 0.0)
    return Scores(scores, ties, by_objective, scored, errors)


def _why(scored: dict[str, Scored], by_objective: dict[str, np.ndarray], model: int) -> str:
    for name, result in scored.items():
        if result.errors is not None and result.errors[model] is not None:
            return f"{name}: {result.errors[model]}"
        if not np.isfinite(by_objective[name][model]):
            bad = int((~np.isfinite(result.examples[model])).sum())
            return f"{name}: {bad} of {result.examples.shape[1]} examples scored NaN or infinite"
    return "the score is not finite"
