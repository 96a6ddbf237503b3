"""An operator's parameters as a recipe sets them: checked as a whole, then resolved for each tensor.

A level is a mapping `parameters:` of the recipe. A source's own precedes its slice's, that its module's, that the
recipe's, and what no level says has the operator's default.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from jaxmerge.documents import Document, Keys, dotted
from jaxmerge.errors import InputError, nearest, unknown
from jaxmerge.operators.interface import Operator, Parameter
from jaxmerge.operators.task_vector import INT8_MASK
from jaxmerge.recipe.schema import Parameters, Recipe
from jaxmerge.recipe.settings import Scalar, evaluate
from jaxmerge.recipe.slices import Input, Slice


def setting_mistakes(recipe: Recipe, document: Document, operator: Operator) -> Iterator[InputError]:
    """Parameters that the operator does not have, and values that they cannot have."""
    # What mergekit stores masks in is no matter of ours, for any operator.
    known = {p.name: p for p in (*operator.parameters, INT8_MASK)}
    for parameters, keys, of_source in _levels(recipe):
        for name, setting in parameters.items():
            at: Keys = (*keys, "parameters", name)
            if name not in known:
                where = f"{document.where(at)}: {dotted(at[:-1])}"
                yield unknown(f"parameter of {operator.name}", name, known, where)
            elif of_source and not known[name].per_source:
                yield document.error(at, "is one value for the whole merge; write it under the parameters at the top")
            else:
                complaints = (_complaint(known[name], value) for rule in setting for value in rule.values)
                yield from (document.error(at, complaint) for complaint in complaints if complaint)


def missing_settings(part: Slice, recipe: Recipe, document: Document, operator: Operator) -> Iterator[InputError]:
    """Parameters without a default that no level of the recipe speaks of, by its name or misspelt."""
    known = [parameter.name for parameter in operator.parameters]
    meant = {nearest(name, known) for level, _, _ in _levels(recipe) for name in level if name not in known}
    shared = (part.parameters, part.module, recipe.parameters)
    for parameter in operator.parameters:
        if parameter.default is not None or parameter.name in meant or any(parameter.name in level for level in shared):
            continue
        if not parameter.per_source:
            yield _missing(operator, parameter, document, ())
            continue
        for source in part.split(operator)[1]:
            if parameter.name not in source.parameters:
                yield _missing(operator, parameter, document, source.keys)


def resolve(
    operator: Operator,
    tensor: str,
    place: Fraction,
    sources: Sequence[Input],
    part: Slice,
    recipe: Recipe,
    document: Document,
) -> dict[str, np.ndarray]:
    """The parameters for one output tensor, float64: `[K]` for one per source, else scalars. place: see `evaluate`."""
    shared = (part.parameters, part.module, recipe.parameters)
    values: dict[str, Any] = {}
    for parameter in operator.parameters:
        if parameter.per_source:
            found = [_value(parameter, tensor, place, (source.parameters, *shared)) for source in sources]
            for source, value in zip(sources, found, strict=True):
                if value is None:
                    raise _missing(operator, parameter, document, source.keys, f" for {tensor}")
            values[parameter.name] = found
        else:
            value = _value(parameter, tensor, place, shared)
            if value is None:
                raise _missing(operator, parameter, document, (), f" for {tensor}")
            values[parameter.name] = value
    if complaint := operator.check(values):
        raise InputError(f"{document.where(part.keys)}: {tensor}: {complaint}")
    return {name: np.asarray(value, np.float64) for name, value in values.items()}


def _levels(recipe: Recipe) -> Iterator[tuple[Parameters, Keys, bool]]:
    """Every `parameters:` of the recipe, where it stands, and whether it belongs to one source."""
    yield recipe.parameters, (), False
    for keys, body in recipe.bodies.values():
        if body is not recipe:
            yield body.parameters, keys, False
        for i, model in enumerate(body.models or ()):
            yield model.parameters, (*keys, "models", i), True
        for i, part in enumerate(body.slices or ()):
            yield part.parameters, (*keys, "slices", i), False
            for j, source in enumerate(part.sources):
                yield source.parameters, (*keys, "slices", i, "sources", j), True


def _value(
    parameter: Parameter, tensor: str, place: Fraction, levels: Sequence[Parameters]
) -> float | bool | int | None:
    for level in levels:
        if parameter.name in level:
            value = evaluate(level[parameter.name], tensor, place)
            if value is not None:
                return _typed(parameter, value)
    return parameter.default


def _typed(parameter: Parameter, value: Scalar) -> float | bool | int:
    kind = {"flag": bool, "integer": int, "number": float}[parameter.kind]
    return kind(value)


def _complaint(parameter: Parameter, value: Scalar) -> str | None:
    if parameter.kind == "flag":
        return None if isinstance(value, bool) or value in (0, 1) else f"must be true or false, not {value!r}"
    what = "a whole number" if parameter.kind == "integer" else "a number"
    if isinstance(value, bool | str) or (parameter.kind == "integer" and not isinstance(value, int)):
        return f"must be {what}, not {value!r}"
    low, high = parameter.low, parameter.high
    if (low is not None and value < low) or (high is not None and value > high):
        bounds = (
            f"at least {low:g}" if high is None else f"at most {high:g}" if low is None else f"in [{low:g}, {high:g}]"
        )
        return f"must be {bounds}, not {value!r}"
    return None


def _missing(operator: Operator, parameter: Parameter, document: Document, keys: Keys, where: str = "") -> InputError:
    return document.error(
        keys, f"{operator.name} needs the parameter '{parameter.name}'{where} ({parameter.meaning}); give it a value"
    )
