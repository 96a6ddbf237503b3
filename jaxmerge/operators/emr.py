"""EMR's unified task vector: in each element the elected sign and the largest magnitude that agrees with it."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import depart, rounded
from jaxmerge.operators.interface import Operator, Parameter, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.ram import summed
from jaxmerge.operators.sce import chunks
from jaxmerge.operators.tall_mask import WEIGHT
from jaxmerge.operators.task_vector import SCALE


def prepare(sources: Sources, request: Request) -> Prepared:
    """Where a task is asked for, what brings each masked unified vector to the mean magnitude of its own task vector:
    float32 `[K]`, of task vectors of weight 1; 1 where either vanishes."""
    count = len(sources.experts)
    own, masked = np.zeros((2, count))
    for _, deltas in chunks(sources) if np.any(request.grid["task"][0]) else ():
        up = sum(deltas[1:], start=deltas[0]) > 0
        agrees = [np.where(up, delta > 0, delta < 0) for delta in deltas]
        largest = np.max([np.where(a, np.abs(d), 0) for a, d in zip(agrees, deltas, strict=True)], axis=0)
        own += [np.abs(delta).sum(dtype=np.float64) for delta in deltas]
        masked += [largest[a].sum(dtype=np.float64) for a in agrees]
    vanishing = (own == 0) | (masked == 0)
    return Prepared({"rescale": np.where(vanishing, 1, own / np.where(vanishing, 1, masked)).astype(np.float32)})


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    weights = jnp.asarray(params["weight"], jnp.float32)
    vectors = [rounded(weights[i] * (source - tile.base)) for i, source in enumerate(tile.sources)]
    up = summed(vectors) > 0
    agrees = [jnp.where(up, vector > 0, vector < 0) for vector in vectors]
    largest = jnp.zeros((), jnp.float32)
    for agree, vector in zip(agrees, vectors, strict=True):
        largest = jnp.maximum(largest, jnp.where(agree, jnp.abs(vector), 0))
    unified = found = jnp.where(up, largest, -largest)
    for i, agree in enumerate(agrees):
        own = jnp.where(agree, rounded(unified * stats["rescale"][i]), 0)
        found = jnp.where(params["task"] >= i + 1, own, found)
    return depart(tile.base, rounded(found * params["lambda"]))


OPERATOR = Operator(
    "emr",
    "The unified task vector: in each element the sign of the sum, at the largest magnitude of those that agree; or "
    "one model found again in it by its mask and rescaler.",
    apply,
    (
        WEIGHT,
        Parameter(
            "task",
            "0: the unified vector; else which model's mask and rescaler (of weights 1, tensor by tensor) are applied: "
            "1 is the first; past the last means the last",
            0,
            kind="integer",
            low=0,
            gridded=True,
        ),
        SCALE,
    ),
    prepare,
    needs_base=True,
    paper="Huang et al. 2024, EMR-Merging, arXiv:2405.17461",
)
