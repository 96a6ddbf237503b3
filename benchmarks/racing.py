"""What a race and an item response estimate save on the demo's task, and whether they find the same winner.

    python benchmarks/racing.py            # all of it: 10 seeds, ten orders of one search, a search with the race in it
    python benchmarks/racing.py --seeds 0 1 --generations 2 --long 3     # less of everything, to try it

For each seed the demo's search runs with full evaluation, whose scores of single examples are kept: `generations`, of
the first seed `long`. Then the same populations are raced, and estimated, by the search's own code over what was kept:
each sees the examples it asks for, and the winner is the best on all examples of its ten finalists. All populations of
the first seed are raced in ten orders in which the examples are dealt. Last, that seed's search runs again with the
race in its loop, so that its populations are those that the race bred. Shares are of full evaluation's.
"""

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from machine import write
from scipy import stats

from jaxmerge.demo.run import CONFIG, cores
from jaxmerge.objectives.interface import Block
from jaxmerge.search.algorithms.registry import algorithm
from jaxmerge.search.baselines import Untuned, parents
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.evaluation.scorer import scorer
from jaxmerge.search.evolve import evolve
from jaxmerge.search.finalists import best_places
from jaxmerge.search.history import Generation, History, clean
from jaxmerge.search.loop import Limit, Stage, search
from jaxmerge.search.ranking import best_score, columns, ordinal
from jaxmerge.search.resolved import read_config
from jaxmerge.search.result import Result

UNTUNED = [Untuned("uniform", "linear", ("math", "ja"), {"weight": 1.0})]
START = Untuned("task_arithmetic 1/n", "task_arithmetic", ("math", "ja"), {"weight": 0.5})


class Kept(ParameterEngine):
    """Evaluates every genome once, on all examples; blocks are answered from that. A block's tie-breaker is that of all
    examples, which only orders equal scores."""

    def __init__(self, config: EvolveConfig) -> None:
        super().__init__(config)
        self.known: dict[bytes, Result] = {}

    def evaluate(
        self, genomes: np.ndarray, split: str = "search", draw: int | None = None, block: Block | None = None
    ) -> list[Result]:
        new = [genome for genome in genomes if genome.tobytes() not in self.known]
        if new:
            for genome, result in zip(new, super().evaluate(np.stack(new)), strict=True):
                self.known[genome.tobytes()] = result
        results = [self.known[genome.tobytes()] for genome in genomes]
        return results if block is None else [self._of_block(result, block) for result in results]

    def _of_block(self, result: Result, block: Block) -> Result:
        [objective], examples = self._objectives, result.examples
        assert examples is not None
        places = objective.split("search").select(self._config.objectives[0], None, block).places  # type: ignore[attr-defined]
        seen = np.full_like(examples[objective.name], np.nan)
        seen[places] = examples[objective.name][places]
        return replace(result, examples={objective.name: seen})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(10)))
    parser.add_argument("--generations", type=int, default=8)
    parser.add_argument("--long", type=int, default=40)
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", cores())
    engine = Kept(read_config(CONFIG))
    engine.load()
    answered = [engine.measure(merge, "search").examples for merge in (*parents(read_config(CONFIG)), *UNTUNED)]
    first, *others = arguments.seeds
    whole = searched(engine, first, max(arguments.long, arguments.generations))
    rows = []
    for seed in (first, *others):
        full = whole if seed == first else searched(engine, seed, arguments.generations)
        short = full[: arguments.generations]
        rows.append({"seed": seed, "best_score": best_score(flat(short)), **cheaply(engine, short, seed, answered)})
        found: dict[str, Any] = {"generations": arguments.generations, "seeds": rows, **both(rows)}
        write("racing", found)  # what was done is kept
    orders = [cheaply(engine, whole, seed, answered) for seed in range(10)]
    found["whole_search_in_ten_orders"] = {"generations": len(whole), "orders": orders, **both(orders)}
    write("racing", found)
    found["whole_search_raced"] = raced(first, len(whole)) | {"full_evaluation_best_score": best_score(flat(whole))}
    write("racing", found)


def searched(engine: Kept, seed: int, generations: int) -> list[Generation]:
    """The populations of the demo's search with full evaluation."""
    config = read_config(CONFIG)
    start = engine.start(START)
    assert start is not None
    made = algorithm("CMA_ES", engine.dimension, population=config.search.population, sigma=config.search.sigma)  # type: ignore[arg-type]
    stage = Stage("parameter", made, start, seed, Limit(generations=generations))
    with tempfile.TemporaryDirectory() as folder:
        history = History.read(Path(folder) / "full.jsonl", made.population)
        return search(stage, lambda genomes, generation: engine.evaluate(genomes), history)


def cheaply(
    engine: Kept, full: Sequence[Generation], seed: int, answered: Sequence[dict[str, np.ndarray]]
) -> dict[str, Any]:
    """Both cheap evaluations of populations that were scored in full. seed: of the order of examples."""
    kinds = {}
    for kind in ("racing", "irt"):
        config = read_config(CONFIG, [f"search.seed={seed}", f"search.evaluation={{kind: {kind}}}"])
        with tempfile.TemporaryDirectory() as folder:
            cheap = History.read(Path(folder) / "history.jsonl", len(full[0].genomes))
            score = scorer(config, engine, cheap, "parameter", answered)
            for generation in full:
                results = score(generation.genomes, generation.number)
                cheap.append(Generation("parameter", generation.number, generation.genomes, clean(results)))
        kinds[kind] = compared(engine, full, cheap.stage("parameter"))
    return kinds


def both(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {kind: overall([row[kind] for row in rows]) for kind in ("racing", "irt")}


def compared(engine: Kept, full: Sequence[Generation], cheap: Sequence[Generation]) -> dict[str, Any]:
    """Shares of the examples' tokens, of the search alone and with those finalists scored to the end that were not; the
    winner; and the ranks over all candidates and within generations."""
    [tokens] = engine.tokens.values()
    spent = sum(float(tokens[np.isfinite(values)].sum()) for r in flat(cheap) for values in (r.seen or {}).values())
    finalists = best_places(cheap)
    exact = engine.evaluate(np.stack([place.genome for place in finalists]))
    again = sum(float(tokens.sum()) for place in finalists if not place.result.complete)
    results = zip(finalists, exact, strict=True)
    winner, score = max(results, key=lambda pair: (pair[1].score or 0.0, pair[1].tie))
    best = best_places(full, 1)[0]
    everything = float(tokens.sum()) * len(flat(full))
    key = jax.random.key(0)
    within = [
        stats.spearmanr(ordinal(one.results, key), -columns(other.results)[0]).statistic
        for one, other in zip(cheap, full, strict=True)
    ]
    return {
        "tokens_share": spent / everything,
        "tokens_share_with_finalists": (spent + again) / everything,
        "same_winner": winner.genome.tobytes() == best.genome.tobytes(),
        "winner_score": score.score,
        "rank_correlation": float(stats.spearmanr(columns(flat(cheap))[0], columns(flat(full))[0]).statistic),
        "rank_correlation_within_generations": float(np.mean(within)),
    }


def flat(generations: Sequence[Generation]) -> list[Result]:
    return [result for generation in generations for result in generation.results]


def overall(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "same_winner": f"{sum(row['same_winner'] for row in rows)} of {len(rows)}",
        **{
            key: {"mean": float(np.mean([row[key] for row in rows])), "worst": float(worst([row[key] for row in rows]))}
            for key, worst in (
                ("tokens_share", max),
                ("tokens_share_with_finalists", max),
                ("rank_correlation", min),
                ("rank_correlation_within_generations", min),
            )
        },
    }


def raced(seed: int, generations: int) -> dict[str, Any]:
    """The demo's search with the race in its loop, from beginning to end but for random search."""
    overrides = [
        f"search.seed={seed}",
        f"search.generations={generations}",
        "search.evaluation={kind: racing}",
        "search.baselines=[uniform, task_arithmetic]",
    ]
    started, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        summary = evolve(CONFIG, Path(folder) / "run", overrides=overrides).summary
    keys = ("seed", "candidates", "best_score", "validation_score", "test_score", "test_interval", "evaluation")
    return {
        **{key: summary[key] for key in keys},
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
    }


if __name__ == "__main__":
    main()
