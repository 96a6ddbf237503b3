"""What a plan makes of some tensors, in full."""

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

import numpy as np

from jaxmerge.errors import InputError
from jaxmerge.recipe.plan import Plan
from jaxmerge.recipe.tensors import Piece, TensorPlan


def explain(plans: Sequence[Plan], pattern: str) -> list[str]:
    """Lines on every output tensor that a pattern matches: operator, base and sources with the parameters of each.

    pattern: a glob over the whole name, or a regular expression found in it. Raises InputError where none match."""
    matched = [(plan, tensor) for plan in plans for tensor in plan.tensors if _matches(pattern, tensor.name)]
    if not matched:
        some = ", ".join(tensor.name for tensor in plans[-1].tensors[:2])
        raise InputError(f"--explain '{pattern}': matches no tensor of the output, such as {some}; correct it")
    return [line for plan, tensor in matched for line in (*_lines(plan, tensor), "")][:-1]


def _matches(pattern: str, name: str) -> bool:
    try:
        return fnmatchcase(name, pattern) or re.search(pattern, name) is not None
    except re.error:
        return False  # a glob


def _lines(plan: Plan, tensor: TensorPlan) -> Iterator[str]:
    yield f"{tensor.name} {list(tensor.shape)} {tensor.dtype}"
    each = {p.name for p in plan.operator.parameters if p.per_source}
    whole = {name: value for name, value in tensor.params.items() if name not in each}
    if tensor.copied:
        yield "  copied"
    else:
        yield "  operator  " + _with(plan.operator.name, whole)
    if tensor.base is not None:
        yield f"  base      {_source(plan, tensor.base)}"
    for i, piece in enumerate(tensor.sources):
        own = {} if tensor.copied else {name: value[i] for name, value in tensor.params.items() if name in each}
        yield "  source    " + _with(_source(plan, piece), own)
    if tensor.donors:
        yield f"  rows      of {tensor.shape[0]} tokens, those that a model lacks from: " + ", ".join(
            plan.references[piece.model] for piece in tensor.donors
        )


def _source(plan: Plan, piece: Piece) -> str:
    info = plan.models[piece.model].info(piece.name)
    return f"{plan.references[piece.model]} {piece.name} {list(info.shape)} {info.dtype}"


def _with(what: str, params: dict[str, np.ndarray]) -> str:
    return ": ".join(part for part in (what, ", ".join(f"{k}={v.item():.6g}" for k, v in params.items())) if part)
