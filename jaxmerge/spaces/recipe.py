"""A candidate as a mergekit recipe.

Each group's values are written with filters (substrings of tensor names, the first that matches counts), not as
gradients over layers: an interpolated gradient does not give back the same numbers. A float32 is written as the
shortest decimal that reads back to it.
"""

from typing import Any

import numpy as np

from jaxmerge.architectures.table import Parameter as Tensor
from jaxmerge.architectures.table import Table
from jaxmerge.operators.interface import Operator, Parameter
from jaxmerge.spaces.groups import Groups
from jaxmerge.spaces.parameter import Values


def recipe(
    operator: Operator,
    values: Values,
    groups: Groups,
    table: Table,
    *,
    models: tuple[str, ...],
    base: str | None,
    out_dtype: str,
) -> dict[str, Any]:
    """mergekit YAML, as plain Python, for one candidate.

    values: one candidate's, as `ParameterSpace.decode` gives them. models: references of the experts, in order.
    Sources are merged in float32 and rounded once to `out_dtype`.
    """
    filters = _filters(groups, table)
    sources: list[dict[str, Any]] = []
    for k, model in enumerate(models):
        own = {p.name: values[p.name][:, k] for p in operator.parameters if p.per_source}
        parameters = _settings(operator, own, filters)
        sources.append({"model": model, "parameters": parameters} if parameters else {"model": model})
    shared = _settings(operator, {p.name: values[p.name] for p in operator.parameters if not p.per_source}, filters)
    written: dict[str, Any] = {"merge_method": operator.name}
    if operator.takes_base and base is not None:
        written["base_model"] = base
    written["models"] = sources
    if shared:
        written["parameters"] = shared
    return written | {"dtype": "float32", "out_dtype": out_dtype}


def _filters(groups: Groups, table: Table) -> list[list[str]]:
    """For each group the filters that select its tensors: a layer's common prefix where the layer is wholly in one
    group, else full tensor names."""
    found: list[list[str]] = [[] for _ in groups.names]
    stacked = [p for p in table if p.stacked]
    for layer in range(table.num_layers):
        owners = {int(groups.members[p.path][layer]) for p in stacked}
        if len(owners) == 1:
            found[owners.pop()].append(_layer_prefix(stacked, layer))
        else:
            for p in stacked:
                found[int(groups.members[p.path][layer])].append(p.hf.format(layer=layer))
    for p in table:
        if not p.stacked:
            found[int(groups.members[p.path])].append(p.hf)
    return found


def _layer_prefix(stacked: list[Tensor], layer: int) -> str:
    """`model.layers.3.`: what the names of one layer's tensors have in common."""
    return stacked[0].hf.split("{layer}")[0] + f"{layer}."


def _settings(operator: Operator, values: Values, filters: list[list[str]]) -> dict[str, Any]:
    """The settings of one level of the recipe, without those that only repeat the operator's default."""
    written = {name: _setting(operator.parameter(name), array, filters) for name, array in values.items()}
    return {name: setting for name, setting in written.items() if setting != operator.parameter(name).default}


def _setting(parameter: Parameter, values: np.ndarray, filters: list[list[str]]) -> Any:
    plain = [_plain(parameter, value) for value in values]
    if all(value == plain[0] for value in plain):
        return plain[0]
    return [{"filter": text, "value": value} for value, texts in zip(plain, filters, strict=True) for text in texts]


def _plain(parameter: Parameter, value: np.floating) -> bool | int | float:
    if parameter.kind == "flag":
        return bool(value)
    if parameter.kind == "integer":
        return int(value)
    return float(np.format_float_scientific(np.float32(value), unique=True))
