"""The numbers of a finished search: the winner, random search's best, and the untuned merges, on every split."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from jaxmerge.search.baselines import Untuned
from jaxmerge.search.comparison import difference, score_interval
from jaxmerge.search.config import RANDOM_SEARCH, EvolveConfig
from jaxmerge.search.engine import Candidate, Engine, Measurement
from jaxmerge.search.finalists import Place
from jaxmerge.search.measurements import Measurements
from jaxmerge.search.pairing import Groups, same_examples


@dataclass(frozen=True)
class Verdict:
    """best, rival: chosen from the search and from random search. chosen_on: the split they were chosen on, if any."""

    config: EvolveConfig
    engine: Engine
    measurements: Measurements
    best: Place
    rival: Place | None
    merges: tuple[Untuned, ...]
    chosen_on: str | None

    def search_score(self, place: Place) -> float | None:
        """As the search saw it, or exactly and on all of the data where it saw less."""
        if not self.engine.sampled and not self.engine.approximates and place.result.complete:
            return place.result.score
        return self.measurements.scores({place.name: place.genome}, "search")[0].score

    def validation(self) -> float | None:
        if "validation" not in self.engine.splits:
            return None
        return self.measurements.scores({self.best.name: self.best.genome}, "validation")[0].score

    def test(self, name: str, candidate: Candidate) -> Measurement | None:
        """The test scores; None where there is no test data or the candidate failed on it."""
        if "test" not in self.engine.splits:
            return None
        measured = self.measurements.of(name, candidate, "test")
        return measured if measured.result.score is not None else None

    def tested(self) -> dict[str, Measurement | None]:
        """Test scores of every baseline, random search among them."""
        found = {merge.name: self.test(merge.name, merge) for merge in self.merges}
        if self.rival is not None:
            found[RANDOM_SEARCH] = self.test(self.rival.name, self.rival.genome)
        return found

    def row(self, search_score: float | None, test: Measurement | None) -> dict[str, Any]:
        """A baseline's entry in the summary."""
        return {
            "search_score": search_score,
            "test_score": None if test is None else test.result.score,
            "test_interval": None if test is None else self.interval(test),
        }

    def interval(self, test: Measurement) -> list[float]:
        """The 95% interval of a test score."""
        return list(score_interval(test.examples, self.engine.weights, self._groups(test)))

    def comparison(self, tested: Mapping[str, Measurement | None]) -> dict[str, Any] | None:
        """The winner against the baseline that is best on the test, paired by example."""
        return self._against(tested)

    def comparisons(
        self, tested: Mapping[str, Measurement | None], made: Collection[str]
    ) -> dict[str, dict[str, Any] | None]:
        """The same against the best parent, the best untuned merge and random search, each for itself.

        made: the models that earlier stages made, which are neither."""
        kinds = {
            "parent": {merge.name for merge in self.merges if merge.operator is None} - set(made),
            "untuned": {merge.name for merge in self.merges if merge.operator is not None},
            RANDOM_SEARCH: {RANDOM_SEARCH},
        }
        return {kind: self._against({n: m for n, m in tested.items() if n in names}) for kind, names in kinds.items()}

    def _against(self, tested: Mapping[str, Measurement | None]) -> dict[str, Any] | None:
        own = self.test(self.best.name, self.best.genome)
        scores = {name: m.result.score for name, m in tested.items() if m is not None and m.result.score is not None}
        if own is None or not scores:
            return None
        strongest = max(scores, key=lambda name: scores[name])
        other = tested[strongest]
        assert other is not None
        gap, interval = difference(own.examples, other.examples, self.engine.weights, self._groups(own))
        return {"baseline": strongest, "difference": gap, "interval": list(interval)}

    def _groups(self, test: Measurement) -> Groups:
        return same_examples(self.config, "test", {name: len(values) for name, values in test.examples.items()})
