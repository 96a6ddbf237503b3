"""CABS: of every m elements in a row each model keeps its n largest, of those that no model before it keeps."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import depart, rounded
from jaxmerge.operators.interface import Operator, Parameter, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.tall_mask import WEIGHT
from jaxmerge.operators.task_matrices import task_vectors
from jaxmerge.operators.task_vector import SCALE
from jaxmerge.operators.trims.trim import CHUNK, slices


def check(params: Mapping[str, Any]) -> str | None:
    n, m = (int(np.ravel(params[name])[0]) for name in ("n", "m"))
    return None if n <= m else f"n is {n} and m is {m}; make n at most m"


def kept(size: np.ndarray, n: int, m: int) -> np.ndarray:
    """The n largest, zeros never, of every m of the flat magnitudes `size`, of equal ones the first; of an incomplete
    last block as many in proportion, rounded up."""
    mask = np.zeros(size.size, bool)
    whole = size.size - size.size % m
    step = max(1, CHUNK // m) * m
    for cut in [*slices(whole, step), slice(whole, size.size)]:
        blocks = size[cut].reshape(-1, m) if cut.stop <= whole else size[None, cut]
        width = blocks.shape[1]
        order = np.argsort(-blocks, axis=1, kind="stable")[:, : -(-n * width // m)]
        chosen = np.zeros(blocks.shape, bool)
        np.put_along_axis(chosen, order, True, axis=1)
        mask[cut] = (chosen & (blocks > 0)).reshape(-1)
    return mask


def prepare(sources: Sources, request: Request) -> Prepared:
    """What each model keeps, a field, bool."""
    n, m = (int(request.grid[name][0][0]) for name in ("n", "m"))
    free = np.ones(sources.experts[0].size, bool)
    masks = []
    for delta in task_vectors(sources, request):
        own = kept(np.abs(delta.reshape(-1)) * free, n, m)
        free &= ~own
        masks.append(own.reshape(delta.shape))
    return Prepared(fields={"mask": tuple(masks)})


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    weights = jnp.asarray(params["weight"], jnp.float32)
    mix = jnp.zeros((), jnp.float32)
    for i, source in enumerate(tile.sources):
        mix = mix + jnp.where(tile.fields["mask"][i], rounded(weights[i] * (source - tile.base)), 0)
    return depart(tile.base, rounded(mix * params["lambda"]))


OPERATOR = Operator(
    "cabs",
    "Task vectors that share no element, summed: of every m elements each model, in their order, keeps its n largest "
    "of those that are left.",
    apply,
    (
        WEIGHT,
        Parameter(
            "n", "how many of every m elements a model keeps", 64, kind="integer", low=0, gridded=True, fixed=True
        ),
        Parameter("m", "how many elements compete", 256, kind="integer", low=1, gridded=True, fixed=True),
        SCALE,
    ),
    prepare,
    needs_base=True,
    check=check,
    field_bytes=1,
    paper="Yang et al. 2025, CABS, arXiv:2503.01874",
)
