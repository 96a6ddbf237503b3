"""What a watcher is told after every generation."""

from collections.abc import Callable
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
    rate: candidates a second. left: seconds to go, None where unknown. note: what is to be known of it besides."""

    stage: str
    done: int
    total: int | None
    candidates: int = 0
    best: float | None = None
    mean: float | None = None
    failed: int = 0
    rate: float | None = None
    left: float | None = None
    note: str | None = None


Report = Callable[[Progress], None]


@dataclass
class Tally:
    """What the generations of a stage come to, of which each is looked at once: the 10,000th costs no more than the
    first."""

    generations: int = 0
    candidates: int = 0
    failed: int = 0
    best: float | None = None
    mean: float | None = None
    # Whether the best is a final score: one such counts before all that are estimated.
    _final: bool = False

    def add(self, generation: Generation) -> None:
        results = generation.results
        scores = columns(results)[0]
        finite = scores[np.isfinite(scores)]
        self.generations += 1
        self.candidates += len(scores)
        self.failed += len(scores) - finite.size
        self.mean = float(finite.mean()) if finite.size else None
        best = best_score(results)
        final = best is not None and bool(np.isfinite(columns([r for r in results if r.final])[0]).any())
        if best is not None and (self.best is None or (final, best) > (self._final, self.best)):
            self.best, self._final = best, final


def measure(stage: str, tally: Tally, limit: "Limit", population: int, seconds: float) -> Progress:
    """The state of a stage. seconds: what its evaluations took so far."""
    done, total = tally.generations, limit.total(population)
    by_count = None if total is None else seconds / done * (total - done)
    by_time = None if limit.seconds is None else limit.seconds - seconds
    return Progress(
        stage=stage,
        done=done,
        total=total,
        candidates=tally.candidates,
        best=tally.best,
        mean=tally.mean,
        failed=tally.failed,
        rate=tally.candidates / seconds if seconds > 0 else None,
        left=min((max(left, 0.0) for left in (by_count, by_time) if left is not None), default=None),
    )
