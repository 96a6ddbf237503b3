"""Whether a config fits an algorithm that is told of several objectives, or of examples."""

from itertools import combinations

from jaxmerge.errors import InputError
from jaxmerge.objectives.schema import ObjectiveConfig
from jaxmerge.search.algorithms.registry import Algorithm, several
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Engine


def require_several(config: EvolveConfig, engine: Engine, algorithm: Algorithm, generations: int | None) -> None:
    """Raises InputError naming the key that does not fit. generations: how many there will be, where that is known."""
    name, kind = config.search.algorithm, several(algorithm)
    if config.search.pick is not None and kind != "objectives":
        raise InputError(f"search.pick: {name} searches for one best candidate; remove it, or use nsga2")
    if kind is None:
        return
    if config.search.evaluation.kind != "full":
        raise InputError(f"search.evaluation.kind: {name} needs all scores of every candidate; use full")
    if kind == "objectives":
        _require_a_trade(config)
    if kind == "examples" and engine.sampled:
        raise InputError(f"objectives: {name} compares examples between generations; remove 'sample', or set 'limit'")
    archive = getattr(algorithm, "archive", 0)
    if generations is not None and archive > generations * algorithm.population:
        raise InputError(
            f"search.options: {name} keeps an archive of up to {archive} candidates, and the budget is "
            f"{generations * algorithm.population}; make the archive smaller or the budget larger"
        )


def _require_a_trade(config: EvolveConfig) -> None:
    """Two objectives at least, no two of them the same."""
    name = config.search.algorithm
    if len(config.objectives) < 2:
        raise InputError(f"objectives: {name} needs at least two to trade; add one, or use another algorithm")
    for one, other in combinations(config.objectives, 2):
        if _content(one) == _content(other):
            raise InputError(
                f"objectives: '{one.name}' and '{other.name}' measure the same, so that {name} has nothing to trade; "
                "remove one"
            )


def _content(objective: ObjectiveConfig) -> dict[str, object]:
    return objective.model_dump(exclude={"name", "weight"})
