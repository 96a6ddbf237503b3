"""What a watcher is told after every generation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaxmerge.search.history import Generation
from jaxmerge.search.ranking import best_score, columns

if TYPE_CHECKING:
    from jaxmerge.search.loop import Limit


@dataclass(frozen=True)
class Progress:
    """stage: what is going on. done, total: generations (or merges), total None where only time limits it.
    best, mean: scores so far, and of the last generation; None where nothing has a score. failed: candidates.
    rate: candidates a second. left: seconds to go, None where unknown."""

    stage: str
    done: int
    total: int | None
    candidates: int = 0
    best: float | None = None
    mean: float | None = None
    failed: int = 0
    rate: float | None = None
    left: float | None = None


Report = Callable[[Progress], None]


def measure(stage: str, generations: Sequence[Generation], limit: "Limit", population: int, seconds: float) -> Progress:
    """The state of a stage. seconds: what its evaluations took so far."""
    scores = [columns(generation.results)[0] for generation in generations]
    everything = np.concatenate(scores)
    finite, last = everything[np.isfinite(everything)], scores[-1][np.isfinite(scores[-1])]
    done, total = len(generations), limit.total(population)
    by_count = None if total is None else seconds / done * (total - done)
    by_time = None if limit.seconds is None else limit.seconds - seconds
    return Progress(
        stage=stage,
        done=done,
        total=total,
        candidates=len(everything),
        best=best_score([result for generation in generations for result in generation.results]),
        mean=float(last.mean()) if last.size else None,
        failed=len(everything) - finite.size,
        rate=len(everything) / seconds if seconds > 0 else None,
        left=min((max(left, 0.0) for left in (by_count, by_time) if left is not None), default=None),
    )
