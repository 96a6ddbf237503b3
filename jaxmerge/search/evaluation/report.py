"""What a cheap evaluation saved, and how well it ranked."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Engine
from jaxmerge.search.evaluation.blocks import Blocks
from jaxmerge.search.finalists import Place
from jaxmerge.search.history import Generation
from jaxmerge.search.measurements import Measurements
from jaxmerge.search.ranking import columns

# Drawn at random, besides the finalists, and scored on all examples.
CHECKED = 16


def examined(
    config: EvolveConfig,
    engine: Engine,
    measurements: Measurements,
    generations: Sequence[Generation],
    finalists: Sequence[Place],
) -> dict[str, Any]:
    """A summary's `evaluation`.

    examples_share, tokens_share: what the search spent of what scoring every candidate on all examples would have.
    checked: candidates that were scored both ways, finalists and a random sample. rank_correlation: Spearman's, between
    the scores that the search had of them and those on all examples. tokens_saved: 1 - the share of tokens, with what
    the check cost.
    """
    places = [
        Place(generation.stage, generation.number, index, genome, result)
        for generation in generations
        for index, (genome, result) in enumerate(zip(generation.genomes, generation.results, strict=True))
        if result.score is not None
    ]
    sizes, tokens = Blocks.of(config, engine).sizes, engine.tokens
    full_tokens = sum(float(tokens[name].mean()) * size for name, size in sizes.items())
    spent_examples, spent_tokens = 0.0, 0.0
    for place in places:
        for name, values in (place.result.seen or {}).items():
            spent_examples += int(np.isfinite(values).sum())
            spent_tokens += float(tokens[name][np.isfinite(values)].sum())
    chosen = {place.name: place for place in finalists}
    others = [place for place in places if place.name not in chosen]
    rng = np.random.default_rng(config.search.seed)
    drawn = rng.choice(len(others), min(CHECKED, len(others)), replace=False)
    checked = [*finalists, *(others[i] for i in np.sort(drawn))]
    partial = {place.name: place.genome for place in checked if not place.result.complete}
    exact = dict(zip(partial, measurements.scores(partial, "search"), strict=True)) if partial else {}
    had = columns([place.result for place in checked])[0]
    real = columns([exact.get(place.name, place.result) for place in checked])[0]
    share = spent_tokens / (full_tokens * len(places))
    check = len(partial) * sum(float(values.sum()) for values in tokens.values()) / (full_tokens * len(places))
    return {
        "kind": config.search.evaluation.kind,
        "examples_share": spent_examples / (sum(sizes.values()) * len(places)),
        "tokens_share": share,
        "tokens_saved": 1 - share - check,
        "checked": len(checked),
        "rank_correlation": _spearman(had, real),
    }


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3 or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
        return None
    return float(stats.spearmanr(a[both], b[both]).statistic)
