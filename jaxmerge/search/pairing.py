"""Which objectives are over the same examples. Their scores of an example go together, so that they are added up
example by example, and only what is over other examples is independent."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxmerge.search.config import EvolveConfig

# Names of objectives that are over the same examples; each objective is in one group.
Groups = Sequence[Sequence[str]]


def same_examples(config: EvolveConfig, split: str, counts: Mapping[str, int]) -> tuple[tuple[str, ...], ...]:
    """The groups of objectives with the same data file, limit and number of examples of a split.

    counts: how many examples each objective has there."""
    found: dict[object, list[str]] = {}
    for objective in config.objectives:
        file = getattr(objective.data, split)
        key = None if file is None else (config.folder / file).resolve()
        alike = (key, objective.limit, counts.get(objective.name))
        found.setdefault(objective.name if key is None else alike, []).append(objective.name)
    return tuple(map(tuple, found.values()))


def added_up(
    examples: Mapping[str, np.ndarray], weights: Mapping[str, float], groups: Groups
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The weighted mean over each group's objectives, float64 `[..., N]`, and the weight of each, by its first name."""
    means: dict[str, np.ndarray] = {}
    totals: dict[str, float] = {}
    for group in groups:
        total = sum(weights[name] for name in group)
        parts = [weights[name] * examples[name].astype(np.float64) for name in group]
        # One objective's scores stay as they are, to the bit.
        means[group[0]] = np.sum(parts, axis=0) / total if len(group) > 1 else examples[group[0]].astype(np.float64)
        totals[group[0]] = total
    return means, totals
