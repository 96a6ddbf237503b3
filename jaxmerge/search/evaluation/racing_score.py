"""A generation scored as a race. What is asked of the engine depends on the history and the config alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaxmerge.objectives.interface import Block
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Engine
from jaxmerge.search.evaluation.blocks import Blocks, Entry
from jaxmerge.search.evaluation.racing import Examples, Race
from jaxmerge.search.finalists import best_places
from jaxmerge.search.history import History
from jaxmerge.search.pairing import same_examples
from jaxmerge.search.result import Result


@dataclass(frozen=True)
class RacingScore:
    """Scores a stage's generations; see `loop.Score`."""

    engine: Engine
    config: EvolveConfig
    history: History
    stage: str

    def __call__(self, genomes: np.ndarray, generation: int) -> list[Result]:
        blocks, wanted = Blocks.of(self.config, self.engine), self.config.search.evaluation
        assert wanted.confidence and wanted.keep
        draw = generation if self.engine.sampled else None
        champion = self._champion()
        entries = [Entry() for _ in genomes]
        race = Race(
            blocks.sizes,
            self.engine.weights,
            same_examples(self.config, "search", {name: of["search"] for name, of in self.engine.examples.items()}),
            1 - wanted.confidence,
            np.ones(len(genomes), bool),
            wanted.keep,
            champion,
        )
        for number in range(blocks.count):
            places = np.flatnonzero(race.running)
            if not len(places):
                break
            block = Block(number, blocks.count, self.config.search.seed)
            results = self.engine.evaluate(genomes[places], draw=draw, block=block)
            for place, result in zip(places, results, strict=True):
                entries[place].add(result)
                race.running[place] = result.score is not None
            if blocks.first <= number + 1 < blocks.count:
                for place in np.flatnonzero(race.judge(_stacked(entries, race.running))):
                    entries[place].left = number + 1
        results = [entry.result(self.engine.weights) for entry in entries]
        known = [result.seen for result in results if result.seen is not None and result.left is None]
        return [self._estimated(result, known if champion is None else [*known, champion]) for result in results]

    def _estimated(self, result: Result, known: Sequence[Examples]) -> Result:
        """Who left gets an estimate: its means, shifted by how much better those that are known to the end did on all
        examples than on those that it saw. Only so can it be compared with others that saw more, or none of these."""
        if result.left is None or result.seen is None or not known:
            return result
        estimate = 0.0
        for name, values in result.seen.items():
            saw = np.isfinite(values)
            shifts = [np.nanmean(of[name], dtype=np.float64) - of[name][saw].mean(dtype=np.float64) for of in known]
            estimate += self.engine.weights[name] * (float(values[saw].mean(dtype=np.float64)) + float(np.mean(shifts)))
        return replace(result, estimate=float(estimate))

    def _champion(self) -> Examples | None:
        """The stage's best so far of those that were scored to the end. Draws differ between generations."""
        if self.engine.sampled:
            return None
        best = best_places(self.history.stage(self.stage), 1)
        return best[0].result.seen if best and best[0].result.left is None else None


def _stacked(entries: Sequence[Entry], running: np.ndarray) -> dict[str, np.ndarray]:
    """All candidates' scores by objective, `[P, N]`; NaN throughout for those that are not running."""
    seen = [entry.seen if there else {} for entry, there in zip(entries, running, strict=True)]
    shapes = {name: values.shape for of in seen for name, values in of.items()}
    return {
        name: np.stack([of.get(name, np.full(shape, np.nan, np.float32)) for of in seen])
        for name, shape in shapes.items()
    }
