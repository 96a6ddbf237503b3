"""summary.json: what came of a run."""

import json
import math
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from jaxmerge import __version__
from jaxmerge.search.baselines import Untuned, stages_of
from jaxmerge.search.config import RANDOM_SEARCH, EvolveConfig, start_of, warm_start_of
from jaxmerge.search.engine import Engine
from jaxmerge.search.history import History
from jaxmerge.search.verdict import Verdict

PACKAGES = ("jax", "jaxlib", "flax", "evosax", "optax", "orbax-checkpoint", "transformers", "numpy")


def summarize(verdict: Verdict, config: EvolveConfig, history: History, origin: str) -> dict[str, Any]:
    """The summary of a finished run. origin: what the search started from."""
    best, measurements = verdict.best, verdict.measurements
    tested = verdict.tested()
    own = verdict.test(best.name, best.genome)
    evolved = verdict.row(verdict.search_score(best), own)
    baselines: dict[str, Any] = {}
    for merge in verdict.merges:
        searched = measurements.of(merge.name, merge, "search").result
        baselines[merge.name] = verdict.row(searched.score, tested[merge.name]) | _described(merge, searched.error)
    if verdict.rival is not None:
        row = verdict.row(verdict.search_score(verdict.rival), tested[RANDOM_SEARCH])
        baselines[RANDOM_SEARCH] = row | {"candidates": history.candidates(RANDOM_SEARCH)}
    stage = config.stage
    candidates, seconds = history.candidates(stage), history.seconds(stage)
    spent = measurements.seconds
    by_stage = {
        "baselines": spent.get("search", 0.0),
        **{name: _seconds(history, name) for name in config.earlier},
        stage: _seconds(history, stage),
        RANDOM_SEARCH: history.seconds(RANDOM_SEARCH),
        "validation": spent.get("validation", 0.0),
        "test": spent.get("test", 0.0),
    }
    return {
        "best_score": evolved["search_score"],
        "validation_score": verdict.validation(),
        "test_score": evolved["test_score"],
        "test_interval": evolved["test_interval"],
        "objectives": None if own is None else own.result.scores,
        "best": {"stage": best.stage, "generation": best.generation, "index": best.index},
        "examples": {name: dict(counts) for name, counts in verdict.engine.examples.items()},
        "chosen_on": verdict.chosen_on or "search",
        "start": origin,
        "baselines": baselines,
        "comparison": verdict.comparison(tested),
        "comparisons": verdict.comparisons(tested, config.earlier),
        "candidates": candidates,
        "stages": {
            name: {"candidates": history.candidates(name), "seconds": history.seconds(name)} for name in config.earlier
        },
        "failed": sum(r.score is None for g in history.stage(stage) for r in g.results),
        "tokens_per_candidate": _tokens(config, verdict.engine),
        "candidates_per_second": candidates / seconds if seconds > 0 else None,
        "seconds": sum(by_stage.values()),
        "seconds_by_stage": by_stage,
        "compiles": verdict.engine.compiles,
        "seed": config.search.seed,
        "versions": _versions(),
        "devices": verdict.engine.devices,
        "history": history.digest_of(*stages_of(config)),
    }


def _seconds(history: History, stage: str) -> float:
    """Of a search, with its gradient steps before it and what it set out from."""
    return sum(history.seconds(name) for name in (warm_start_of(stage), start_of(stage), stage))


def as_json(summary: dict[str, Any]) -> str:
    """The text of summary.json; what is no number is null."""
    return json.dumps(_finite(summary), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _tokens(config: EvolveConfig, engine: Engine) -> int:
    """What scoring a candidate on the search data costs, of each generation's sample where one is drawn."""
    shares = {o.name: min(1.0, (o.sample or math.inf) / engine.examples[o.name]["search"]) for o in config.objectives}
    return round(sum(float(engine.tokens[name].sum()) * share for name, share in shares.items()))


def _described(merge: Untuned, error: str | None) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if merge.operator is not None:
        described = {"operator": merge.operator, "parameters": merge.parameters}
    return described | ({"error": error} if error else {})


def _versions() -> dict[str, str]:
    found = {"jaxmerge": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
