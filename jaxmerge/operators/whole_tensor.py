"""One operator on one whole tensor: `prepare`, then `apply` under jit."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import storable, widen
from jaxmerge.operators.interface import Operator, Params, Request, Sources, Stats, Tile


@partial(jax.jit, static_argnums=0)
def merge_tile(
    operator: Operator,
    base: Array | None,
    experts: tuple[Array, ...],
    rows: Array,
    fields: dict[str, tuple[Array, ...]],
    stats: Stats,
    params: Params,
) -> Array:
    """`operator.apply` on stored arrays (see `arithmetic.storable`), compiled once for an operator, shape and
    dtypes.
    """
    wide = None if base is None else widen(base)
    return operator.apply(Tile(wide, tuple(map(widen, experts)), rows, fields), stats, params)


def complete(operator: Operator, params: Mapping[str, Any], sources: int) -> dict[str, np.ndarray]:
    """All parameters of an operator as float64 arrays (`[K]` per source, else scalars), from given ones and
    defaults.
    """
    unknown = set(params) - {parameter.name for parameter in operator.parameters}
    if unknown:
        raise KeyError(f"{operator.name} has no parameter {sorted(unknown)}")
    values = {}
    for parameter in operator.parameters:
        value = params.get(parameter.name, parameter.default)
        if value is None:
            raise KeyError(f"{operator.name} needs the parameter {parameter.name}")
        shape = (sources,) if parameter.per_source else ()
        values[parameter.name] = np.broadcast_to(np.asarray(value, np.float64), shape)
    return values


def merge_tensor(
    operator: Operator,
    base: np.ndarray | None,
    experts: Sequence[np.ndarray],
    params: Mapping[str, Any],
    *,
    tensor: str,
    seed: int,
    masks: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Merges one tensor: float32, of the sources' shape.

    base, experts: whole tensors of one shape in the dtype of their checkpoint.
    params: a number, or one for each expert; what is not given takes its default.
    tensor, seed: which random masks are drawn; masks: recorded draws to use instead, uint8, one an expert.
    """
    shape = experts[0].shape
    if not shape:  # a scalar is a row of one
        row = [np.reshape(expert, (1,)) for expert in experts]
        base = None if base is None else np.reshape(base, (1,))
        return merge_tensor(operator, base, row, params, tensor=tensor, seed=seed, masks=masks).reshape(())
    values = complete(operator, params, len(experts))
    grid = {p.name: tuple(values[p.name].reshape(-1, 1)) for p in operator.parameters if p.gridded}
    request = Request(tensor, seed, grid, None if masks is None else tuple(masks))
    prepared = operator.prepare(Sources(base, tuple(experts)), request)
    rows = np.arange(np.prod(shape[:-1], dtype=np.int64), dtype=np.uint32).reshape(shape[:-1])
    merged = merge_tile(
        operator,
        None if base is None else storable(base),
        tuple(map(storable, experts)),
        rows,
        prepared.fields,
        prepared.stats,
        {name: jnp.asarray(value, jnp.float32) for name, value in values.items()},
    )
    return np.asarray(merged)
