"""The result of a run as rows: parents, untuned merges, random search, evolved; and the verdict on them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jaxmerge.report.scale import Interval, Scale
from jaxmerge.search.config import RANDOM_SEARCH

Kind = Literal["parent", "untuned", "stage", "random", "evolved"]
KINDS: tuple[Kind, ...] = ("parent", "untuned", "stage", "random", "evolved")
TITLES: dict[Kind, str] = {
    "parent": "Parents",
    "untuned": "Untuned merges",
    "stage": "Earlier stages",
    "random": "Random search",
    "evolved": "Evolved",
}
# What stands beside a name in a table; the names of the others say it themselves.
LABELS: dict[Kind, str] = {
    "parent": "parent",
    "untuned": "untuned merge",
    "stage": "earlier stage",
    "random": "equal budget",
    "evolved": "",
}


@dataclass(frozen=True)
class Standing:
    """One row: the scores of a model on search and test data, and the 95% interval of the test score."""

    name: str
    kind: Kind
    search: float | None
    test: float | None
    interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """The evolved model minus the best baseline on the test examples, paired, with its 95% interval."""

    baseline: str
    difference: float
    interval: Interval

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        low, high = self.interval
        return low > 0 or high < 0


def kind_of(name: str, config: Mapping[str, Any]) -> Kind:
    """What a baseline of this name is, given the run's config."""
    if name == RANDOM_SEARCH:
        return "random"
    if name in (config.get("earlier") or ()):
        return "stage"
    return "parent" if name == "base" or name in (config.get("models") or {}) else "untuned"


def standings(summary: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[Standing, ...]:
    """The rows of a finished run, kind by kind, in the order of the summary.

    summary: as in `summary.json`. config: the run's resolved config; its models are the parents.
    """
    rows = [
        Standing(
            name,
            kind_of(name, config),
            entry.get("search_score"),
            entry.get("test_score"),
            as_interval(entry.get("test_interval")),
        )
        for name, entry in (summary.get("baselines") or {}).items()
    ]
    rows.append(
        Standing(
            "evolved",
            "evolved",
            summary.get("best_score"),
            summary.get("test_score"),
            as_interval(summary.get("test_interval")),
        )
    )
    return tuple(sorted(rows, key=lambda row: KINDS.index(row.kind)))


def comparison_of(summary: Mapping[str, Any]) -> Comparison | None:
    """The summary's paired comparison with the best baseline, or None where no test was run."""
    return _comparison(summary.get("comparison") or {})


@dataclass(frozen=True)
class Gain:
    """What was gained over the best of one kind. title: in words, such as `the best parent`."""

    kind: Kind
    title: str
    comparison: Comparison

    @property
    def words(self) -> str:
        """What the interval says, without a number."""
        if not self.comparison.significant:
            return "not significant"
        return "better" if self.comparison.difference > 0 else "worse"


def gains(summary: Mapping[str, Any]) -> tuple[Gain, ...]:
    """The summary's paired comparisons with the best parent, the best untuned merge and random search."""
    titles: dict[Kind, str] = {
        "parent": "the best parent",
        "untuned": "the best untuned merge",
        "random": "random search at equal budget",
    }
    entries = summary.get("comparisons") or {}
    found = []
    for kind, title in titles.items():
        comparison = _comparison(entries.get(RANDOM_SEARCH if kind == "random" else kind) or {})
        if comparison is not None:
            found.append(Gain(kind, title, comparison))
    return tuple(found)


def _comparison(entry: Mapping[str, Any]) -> Comparison | None:
    interval = as_interval(entry.get("interval"))
    if interval is None or entry.get("difference") is None:
        return None
    return Comparison(str(entry.get("baseline", "the best baseline")), float(entry["difference"]), interval)


def verdict(summary: Mapping[str, Any], scale: Scale) -> tuple[str, str]:
    """The answer in two parts: what was gained over the best baseline, and how sure that is."""
    comparison = comparison_of(summary)
    if comparison is None:
        return "No test score", "The run has no test data: what it gained on unseen examples is not known."
    rival = (summary.get("baselines") or {}).get(comparison.baseline, {}).get("test_score")
    scores = f" ({scale.score(summary.get('test_score'))} against {scale.score(rival)})" if rival is not None else ""
    against = "against" if comparison.difference < 0 else "over"
    interval = f"95% interval {scale.interval(comparison.interval)}"
    if not comparison.significant:
        certainty = f"Not significant: the {interval} contains 0."
    elif comparison.difference < 0:
        certainty = f"The evolved merge is worse; {interval}."
    else:
        certainty = f"{interval[0].upper()}{interval[1:]}."
    return (
        scale.difference(comparison.difference),
        f"{against} {comparison.baseline}, the best baseline, on test data{scores}. {certainty}",
    )


def as_interval(value: Any) -> Interval | None:
    """A pair of finite numbers, or None."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(x, int | float) for x in value):
        return float(value[0]), float(value[1])
    return None
