"""Where a search starts: an untuned merge or a recipe, as parameters of the space's operator."""

from pathlib import Path

import numpy as np

from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.recipe.plan import make_plan
from jaxmerge.recipe.schema import Recipe
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.engines.sources import Models
from jaxmerge.spaces.parameter import ParameterSpace, Range

# Operators that give `base + sum of w_i delta_i` when nothing is trimmed.
ADDITIVE = ("task_arithmetic", "dare_linear")
UNTRIMMED = {"density": 1.0, "lambda": 1.0, "normalize": 0.0}


def start_of(candidate: Untuned | Path, space: ParameterSpace, models: Models) -> dict[str, np.ndarray | float] | None:
    """Values for `ParameterSpace.encode`, or None where the space cannot express the candidate."""
    if isinstance(candidate, Path):
        return _of_recipe(candidate, space, models)
    wanted = _of_untuned(candidate, space)
    if wanted is None or any(_is_fixed_elsewhere(space, name, value) for name, value in wanted.items()):
        return None
    return wanted


def _of_untuned(candidate: Untuned, space: ParameterSpace) -> dict[str, np.ndarray | float] | None:
    known = {parameter.name for parameter in space.operator.parameters}
    if candidate.operator == space.operator.name and candidate.sources == space.experts:
        defaults = {p.name: p.default for p in space.operator.parameters if p.default is not None}
        return {name: float(value) for name, value in (defaults | candidate.parameters).items()}
    if "weight" not in known:
        return None
    additive = space.operator.name in ADDITIVE
    weights: np.ndarray | None = None
    if candidate.operator is None and candidate.sources[0] in space.experts:
        weights = np.array([float(name == candidate.sources[0]) for name in space.experts])
    elif candidate.operator is None and additive:
        weights = np.zeros(len(space.experts))
    elif candidate.operator == "linear" and additive and candidate.sources == space.experts:
        weights = np.full(len(space.experts), 1.0 / len(space.experts))
    elif candidate.operator == "task_arithmetic" and additive and candidate.sources == space.experts:
        weights = np.full(len(space.experts), candidate.parameters["weight"])
    if weights is None:
        return None
    return {"weight": weights, **{name: value for name, value in UNTRIMMED.items() if name in known}}


def _is_fixed_elsewhere(space: ParameterSpace, name: str, value: np.ndarray | float) -> bool:
    parameter = space.operator.parameter(name)
    setting = space.settings.get(name, parameter.default)
    return not isinstance(setting, Range) and setting is not None and bool(np.any(np.asarray(value) != float(setting)))


def _of_recipe(file: Path, space: ParameterSpace, models: Models) -> dict[str, np.ndarray | float]:
    """A group's values are those of its first tensor."""
    document = Document.read(file)
    plan = make_plan(document.validate(Recipe), document)
    if plan.operator.name != space.operator.name:
        raise InputError(
            f"search.start: {file} merges by {plan.operator.name}, but space.operator is {space.operator.name}"
        )
    experts = [models.experts[name].location.resolve() for name in space.experts]
    tensors = {tensor.name: tensor for tensor in plan.tensors}
    values: dict[str, np.ndarray | float] = {}
    for parameter in space.operator.parameters:
        shape = (len(space.groups.names), len(experts)) if parameter.per_source else (len(space.groups.names),)
        values[parameter.name] = np.zeros(shape)
    for row in reversed(list(models.table)):
        for layer, name in reversed(list(enumerate(row.names(models.table.num_layers)))):
            tensor = tensors.get(name)
            if tensor is None or [plan.models[p.model].location.resolve() for p in tensor.sources] != experts:
                raise InputError(f"search.start: {file} does not merge the config's models in their order: '{name}'")
            group = np.atleast_1d(space.groups.members[row.path])[layer if row.stacked else 0]
            for key, array in values.items():
                array[group] = tensor.params[key]  # type: ignore[index]
    return values
