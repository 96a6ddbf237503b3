"""A data-flow path as a mergekit recipe: passthrough with one slice a layer, the scales folded into its tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxmerge.architectures.fold import part_of
from jaxmerge.architectures.table import LAYERS, Table
from jaxmerge.spaces.dataflow import Pool, Route


def recipe(
    route: Route, pool: Pool, table: Table, *, references: Mapping[str, str], out_dtype: str
) -> dict[str, Any]:
    """mergekit YAML, as plain Python. table: of the path's ends. references: how the recipe names each model.
    Tensors are scaled in float32 and rounded once to `out_dtype`."""
    factors = route.factors
    last = len(route.layers) - 1
    slices = []
    for hop, place in enumerate(route.layers.tolist()):
        model, layer = pool.layers[place]
        source: dict[str, Any] = {"model": references[model], "layer_range": [layer, layer + 1]}
        if rules := _rules(table, factors[hop], final=hop == last):
            source["parameters"] = {"scale": rules}
        slices.append({"sources": [source]})
    return {"merge_method": "passthrough", "slices": slices, "dtype": "float32", "out_dtype": out_dtype}


def _rules(table: Table, factor: np.float32, *, final: bool) -> list[dict[str, Any]]:
    """Filters and values of `scale` for the tensors of one layer, and of the final norm behind the last."""
    factor_of = {"output": _plain(factor), "norm": _plain(np.sign(factor))}
    if final:
        factor_of["final norm"] = factor_of["norm"]
    rules: dict[str, float] = {}
    for parameter in table:
        value = factor_of.get(part_of(parameter.path) or "", 1.0)
        if value != 1.0:
            # A weight and its bias have one filter.
            rules[parameter.path.removeprefix(LAYERS).rpartition(".")[0] if parameter.stacked else parameter.hf] = value
    return [*({"filter": text, "value": value} for text, value in rules.items()), *([{"value": 1.0}] if rules else [])]


def _plain(value: np.floating) -> float:
    """The shortest decimal that reads back to the same float32."""
    return float(np.format_float_scientific(np.float32(value), unique=True))


def described(route: Route, pool: Pool, sizes: Sequence[int]) -> dict[str, Any]:
    """What our own block of the recipe says of a path. sizes: parameters of a layer of the pool, and of all else."""
    layer, ends = sizes
    count, unique = len(route.layers), len(set(route.layers.tolist()))
    return {
        "path": [f"{model}.{index}" for model, index in (pool.layers[place] for place in route.layers.tolist())],
        "pool": dict(zip(pool.names, pool.depths, strict=True)),
        "scales": [_plain(scale) for scale in route.scales],
        "sharing": {
            "layers": count,
            "unique_layers": unique,
            "parameters": ends + count * layer,
            "shared_parameters": ends + unique * layer,
        },
    }
