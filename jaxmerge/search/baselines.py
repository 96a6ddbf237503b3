"""The untuned merges that a search has to beat: parents, and operators at mergekit's defaults with weight 1.

mergekit's default density is 1: nothing is trimmed or dropped, and TIES elects signs over whole task vectors.
"""

from dataclasses import dataclass, field

from jaxmerge.errors import InputError, unknown
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import OPERATORS, operator
from jaxmerge.search.config import BASE, RANDOM_SEARCH, UNIFORM, EvolveConfig, start_of, warm_start_of

DEFAULT = (UNIFORM, "task_arithmetic", "ties", "dare_ties", RANDOM_SEARCH)


@dataclass(frozen=True)
class Untuned:
    """A merge without a search.

    operator: its name; None for a parent, which is the one source as it is.
    sources: names of models in the config, `base` for the base.
    parameters: the operator's parameters, the same for every source and every tensor; others keep their
    defaults.
    """

    name: str
    operator: str | None
    sources: tuple[str, ...]
    parameters: dict[str, float] = field(default_factory=dict, hash=False)


def parents(config: EvolveConfig) -> tuple[Untuned, ...]:
    """Every expert, and the base."""
    names = (*config.models, *([BASE] if config.base is not None else []))
    return tuple(Untuned(name, None, (name,)) for name in names)


def untuned(config: EvolveConfig) -> tuple[Untuned, ...]:
    """The untuned merges that the config names, in its order; without a list, all defaults that its models
    allow.

    `uniform` is the average of the experts. task_arithmetic comes also with weight 1/n.
    Raises InputError for a name that is no operator, or an operator that these models do not fit.
    """
    named = config.search.baselines
    merges: list[Untuned] = []
    experts = config.parents
    for name in standard(config) if named is None else dict.fromkeys(named):
        if name == RANDOM_SEARCH:
            continue
        if name == UNIFORM:
            merges.append(Untuned(UNIFORM, "linear", experts, {"weight": 1.0}))
            continue
        chosen = _known(name)
        if problem := _misfit(chosen, config):
            raise InputError(f"search.baselines: {name} {problem}; remove it")
        weighted = any(parameter.name == "weight" for parameter in chosen.parameters)
        merges.append(Untuned(name, name, experts, {"weight": 1.0} if weighted else {}))
        if name == "task_arithmetic" and len(experts) > 1:
            merges.append(Untuned("task_arithmetic 1/n", name, experts, {"weight": 1.0 / len(experts)}))
    return tuple(merges)


def standard(config: EvolveConfig) -> tuple[str, ...]:
    """The baselines of a config that names none: the defaults that its models allow."""
    return tuple(n for n in DEFAULT if n in (UNIFORM, RANDOM_SEARCH) or _misfit(operator(n), config) is None)


def has_random_search(config: EvolveConfig) -> bool:
    return RANDOM_SEARCH in (DEFAULT if config.search.baselines is None else config.search.baselines)


def stages_of(config: EvolveConfig) -> tuple[str, ...]:
    """What the history holds of this run alone."""
    control = [RANDOM_SEARCH] if has_random_search(config) else []
    return (warm_start_of(config.stage), start_of(config.stage), config.stage, *control)


def _known(name: str) -> Operator:
    try:
        return operator(name)
    except InputError as error:
        if ":" in name:
            raise InputError(f"search.baselines: {error}") from error
        raise unknown("baseline", name, (UNIFORM, RANDOM_SEARCH, *OPERATORS), "search.baselines") from error


def _misfit(chosen: Operator, config: EvolveConfig) -> str | None:
    """Why the config's models cannot be merged untuned by an operator."""
    if chosen.needs_base and config.base is None:
        return "needs a base model"
    count = len(config.parents)
    if not chosen.min_sources <= count <= (chosen.max_sources or count):
        return f"cannot merge {count} models"
    demanded = [p.name for p in chosen.parameters if p.default is None and p.name != "weight"]
    return f"has no default for {demanded[0]}" if demanded else None
