"""A generation scored on a subset of the examples, and its full scores predicted by item response theory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxmerge.errors import InputError
from jaxmerge.objectives.interface import Block
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Engine
from jaxmerge.search.evaluation.blocks import Blocks, Entry
from jaxmerge.search.evaluation.irt import Items, fit
from jaxmerge.search.evaluation.racing import Examples
from jaxmerge.search.history import History
from jaxmerge.search.ranking import best_first
from jaxmerge.search.result import Result

# The latest candidates that answered everything tell most of those to come.
LATEST = 32


@dataclass(frozen=True)
class IrtScore:
    """Scores a stage's generations; see `loop.Score`.

    Each generation has the next block of the examples, so that no subset is learnt by heart. The `keep` best by
    estimate answer the rest too; with the parents and untuned merges they are what the examples' parameters are fitted
    to.

    answered: of models that were scored on all search examples before the search.
    """

    engine: Engine
    config: EvolveConfig
    history: History
    stage: str
    answered: Sequence[Examples]

    def __call__(self, genomes: np.ndarray, generation: int) -> list[Result]:
        blocks, keep = Blocks.of(self.config, self.engine), self.config.search.evaluation.keep
        assert keep
        entries = [Entry() for _ in genomes]
        items = self._items()
        self._ask(genomes, entries, np.arange(len(genomes)), Block(generation % blocks.count, blocks.count, self._seed))
        results = self._estimated(entries, items)
        best = [place for place in best_first(results)[:keep] if results[place].score is not None]
        for number in range(blocks.count):
            if number != generation % blocks.count and best:
                self._ask(genomes, entries, np.array(best), Block(number, blocks.count, self._seed))
                best = [place for place in best if not entries[place].failed]
        return self._estimated(entries, items)

    @property
    def _seed(self) -> int:
        return self.config.search.seed

    def _ask(self, genomes: np.ndarray, entries: list[Entry], places: np.ndarray, block: Block) -> None:
        for place, result in zip(places, self.engine.evaluate(genomes[places], block=block), strict=True):
            for name, values in (result.examples or {}).items():
                if not ((values >= 0) & (values <= 1) | np.isnan(values)).all():
                    raise InputError(
                        f"search.evaluation: '{name}' scored {np.nanmin(values):g} to {np.nanmax(values):g}, and irt "
                        "needs scores from 0 to 1; use kind racing"
                    )
            entries[place].add(result)

    def _items(self) -> dict[str, Items]:
        """The examples' parameters, by objective; none where nobody has answered all of them yet."""
        told = [r.seen for g in self.history.stage(self.stage) for r in g.results if r.seen is not None and r.complete]
        known = [*self.answered, *told[-LATEST:]]
        if not known:
            return {}
        return {name: fit(np.stack([of[name] for of in known])) for name in known[0]}

    def _estimated(self, entries: Sequence[Entry], items: dict[str, Items]) -> list[Result]:
        """Results, with an estimate where not everything was asked: the mean over all examples of the answers that were
        given, and of the probability of a right one for the others."""
        weights = self.engine.weights
        results = [entry.result(weights) for entry in entries]
        for place, result in enumerate(results):
            if result.seen is None or result.complete or not items:
                continue
            estimate = 0.0
            for name, values in result.seen.items():
                chances = items[name].chances(items[name].abilities(values[None]))[0]
                estimate += weights[name] * float(np.where(np.isnan(values), chances, values).mean(dtype=np.float64))
            results[place] = replace(result, estimate=estimate)
        return results
