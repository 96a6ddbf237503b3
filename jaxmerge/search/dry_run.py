"""What a run would do, told before it starts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from jaxmerge.search import resolved
from jaxmerge.search.algorithms.registry import Algorithm, choose, several
from jaxmerge.search.baselines import has_random_search, parents
from jaxmerge.search.config import RANDOM_SEARCH, EvolveConfig
from jaxmerge.search.costs import GRADIENT
from jaxmerge.search.engine import Build, Engine
from jaxmerge.search.evolve import algorithm_of, require_usable
from jaxmerge.search.limits import limit_of
from jaxmerge.search.run import engine_of
from jaxmerge.search.stages import legs


def plan(
    config: str | Path | Mapping[str, Any],
    overrides: Iterable[str] = (),
    build: Build = engine_of,
    *,
    devices: str | None = None,
) -> dict[str, str]:
    """What a run would do, a line a name, after all checks; reads no weights and writes nothing. devices: see
    `engine.Engine.plan`."""
    stages = legs(resolved.read_config(config, overrides), Path("run"))
    lines: dict[str, str] = {}
    # What all searches so far cost, in candidates; None where that is not known in advance.
    cost: int | None = 0
    for leg in stages:
        before = f"{leg.config.stage}: " if len(stages) > 1 else ""
        if leg.checkable is None:
            found, cost = {"space": "depends on the models made before it"}, None
        else:
            found, cost = _plan(leg.checkable, build, cost, devices)
        lines |= {before + name: text for name, text in found.items()}
    return lines


def _plan(
    wanted: EvolveConfig, build: Build, before: int | None, devices: str | None
) -> tuple[dict[str, str], int | None]:
    """The lines of one search, and its cost with that of those before it."""
    if devices is not None and wanted.runtime.dtype == "auto":
        # All that can be planned for are accelerators.
        wanted = wanted.running(dtype="bfloat16")
    engine = build(wanted)
    made = algorithm_of(wanted, engine)
    require_usable(wanted, engine, made)
    limit = limit_of(wanted)
    total = limit.total(made.population)
    hours = wanted.search.budget.hours
    counted = f"{total} generations, {total * made.population} candidates" if total else "any number of candidates"
    cost = None if total is None or hours or before is None else before + _cost(wanted, engine, made, total)
    merges = [merge.name for merge in (*parents(wanted), *engine.baselines)]
    if has_random_search(wanted):
        # It has whole generations, as `_Evolution` runs them.
        whole = None if cost is None else -(-cost // made.population) * made.population
        merges.append(f"{RANDOM_SEARCH} ({'as many candidates' if whole is None else f'{whole} candidates'})")
    return {
        "space": f"{wanted.space.title}, {engine.dimension} dimensions",
        "search": f"{choose(wanted.search.algorithm, engine.dimension)}, population {made.population}, {counted}"
        + (f", at most {hours:g} hours" if hours else ""),
        "baselines": ", ".join(merges),
        "devices": devices or engine.devices,
        **engine.plan(devices),
    }, cost


def _cost(wanted: EvolveConfig, engine: Engine, made: Algorithm, generations: int) -> int:
    """Of a search with its gradient steps, in candidates, as `gradient_start.forwards` has it."""
    total = limit_of(wanted).cost(generations, made.population)
    if several(made) == "gradient":
        total *= GRADIENT if engine.gradient_scores else 1 + GRADIENT
    steps = wanted.search.warm_start.steps if wanted.search.warm_start else 0
    return total + GRADIENT * steps
