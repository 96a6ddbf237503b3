"""RAM: average what several models changed, keep what only one did."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

from jaxmerge.operators.arithmetic import depart, divided
from jaxmerge.operators.interface import Operator, Parameter, Params, Stats, Tile


def epsilon(gridded: bool) -> Parameter:
    return Parameter(
        "epsilon",
        "changes up to this size do not count as changes",
        1e-5,
        low=0.0,
        search=(0.0, 1e-3),
        gridded=gridded,
    )


def changes(tile: Tile, least: Array) -> tuple[list[Array], Array]:
    """The task vectors without what is not larger than `least`, and how many of them are left in each element."""
    assert tile.base is not None
    deltas, count = [], jnp.zeros((), jnp.float32)
    for source in tile.sources:
        delta = source - tile.base
        changed = jnp.abs(delta) > least
        deltas.append(jnp.where(changed, delta, 0))
        count = count + changed
    return deltas, count


def summed(deltas: Sequence[Array]) -> Array:
    total = deltas[0]
    for delta in deltas[1:]:
        total = total + delta
    return total


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    deltas, count = changes(tile, params["epsilon"])
    return depart(tile.base, divided(summed(deltas), jnp.maximum(count, 1)))


OPERATOR = Operator(
    "ram",
    "Changes that several models share are averaged, those that only one model makes are kept whole.",
    apply,
    (epsilon(gridded=False),),
    needs_base=True,
    paper="Behavior Knowledge Merge in Reinforced Agentic Models, 2026",
)
