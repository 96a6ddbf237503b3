"""RAM+: as RAM, with the changes that only one model makes strengthened the more of its changes are shared."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import depart, divided, rounded
from jaxmerge.operators.grid import nearest
from jaxmerge.operators.interface import Operator, Parameter, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.ram import changes, epsilon, summed
from jaxmerge.operators.sce import chunks


def prepare(sources: Sources, request: Request) -> Prepared:
    """For each source the number of changes that it shares over the number of those that it alone makes, float32
    `[G, K]` on the epsilon grid."""
    grid = request.grid["epsilon"][0]
    shared, unique = np.zeros((2, len(grid), len(sources.experts)), np.int64)
    for _, deltas in chunks(sources):
        sizes = [np.abs(delta) for delta in deltas]
        for g, least in enumerate(grid.astype(np.float32)):
            changed = np.stack([size > least for size in sizes])
            count = changed.sum(axis=0)
            shared[g] += (changed & (count > 1)).sum(axis=1)
            unique[g] += (changed & (count == 1)).sum(axis=1)
    overlap = shared / np.maximum(np.maximum(unique, grid[:, None]), np.finfo(np.float32).tiny)
    largest = np.finfo(np.float32).max
    return Prepared({"epsilon": grid.astype(np.float32), "overlap": np.minimum(overlap, largest).astype(np.float32)})


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    deltas, count = changes(tile, params["epsilon"])
    overlap = nearest(stats["overlap"], stats["epsilon"], params["epsilon"])
    strength = 1 + rounded(params["r"] * jnp.clip(overlap, 0, params["alpha"]))
    alone = summed([rounded(delta * strength[i]) for i, delta in enumerate(deltas)])
    return depart(tile.base, jnp.where(count > 1, divided(summed(deltas), jnp.maximum(count, 1)), alone))


OPERATOR = Operator(
    "ramplus_tl",
    "RAM with the changes that only one model makes strengthened, the more the more of its changes others share.",
    apply,
    (
        epsilon(gridded=True),
        Parameter("r", "how much the changes of one model are strengthened", 0.1, low=0.0, search=(0.0, 1.0)),
        Parameter("alpha", "largest overlap that counts", 0.2, low=0.0, search=(0.0, 1.0)),
    ),
    prepare,
    needs_base=True,
    paper="Behavior Knowledge Merge in Reinforced Agentic Models, 2026",
)
