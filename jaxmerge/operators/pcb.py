"""PCB: the elements of the task vectors compete, each by its own size and by how far the others agree with it.

Of N task vectors t_i, the score of an element of t_i is `exp(N norm(|t_i|)^2) tanh(t_i sum_j t_j)`: intra-balancing
times inter-balancing, norm bringing a task's values to [0, 1], as in the authors' code. Scores below those of the
largest `ratio` are dropped, the others brought to [0, 1], and task vectors averaged with them as weights. Ratio and
norm are of a tensor, where the paper's are of the whole model.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import depart, divided, rounded
from jaxmerge.operators.grid import nearest
from jaxmerge.operators.interface import Operator, Parameter, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.tall_mask import WEIGHT
from jaxmerge.operators.task_matrices import task_vectors
from jaxmerge.operators.task_vector import SCALE


def scores(deltas: np.ndarray) -> np.ndarray:
    """Each element's score, at most 1 in magnitude for each task: float32, of the shape of `deltas`, `[K, n]`."""
    count = len(deltas)
    total = deltas.sum(axis=0, dtype=np.float64)
    found = np.empty_like(deltas)
    for own, delta in zip(found, deltas, strict=True):
        size = np.abs(delta, dtype=np.float64)
        least, span = size.min(), size.max() - size.min()
        share = (size - least) / (span or 1.0)
        # What is the same for all elements, such as exp(-N) here, falls out when scores are brought to [0, 1].
        score = np.exp(count * (np.square(share) - 1)) * np.tanh(delta * total)
        own[:] = score / (np.abs(score).max() or 1.0)
    return found


def prepare(sources: Sources, request: Request) -> Prepared:
    """The scores, a field for each source; the largest that is dropped and what brings the rest to [0, 1], float32
    `[G, K]` on the ratio grid."""
    deltas = task_vectors(sources, request)
    grid, count = request.grid["ratio"][0], len(deltas)
    dropped, scale = np.zeros((2, len(grid), count), np.float32)
    found = scores(deltas.reshape(count, -1)) if deltas.size else deltas
    size = deltas[0].size
    places = np.minimum((size * (1 - grid)).astype(np.int64), size - 1)
    for i, score in enumerate(found if size else ()):
        dropped[:, i] = np.partition(score, np.unique(places))[places]
        span = score.max() - dropped[:, i]
        scale[:, i] = np.where(span > 0, 1 / np.where(span > 0, span, 1), 0)
    stats = {"ratio": grid.astype(np.float32), "dropped": dropped, "scale": scale}
    return Prepared(stats, {"score": tuple(found.reshape(deltas.shape))})


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    weights = jnp.asarray(params["weight"], jnp.float32)
    dropped, scale = (nearest(stats[name], stats["ratio"], params["ratio"]) for name in ("dropped", "scale"))
    mix = divisor = jnp.zeros((), jnp.float32)
    for i, source in enumerate(tile.sources):
        share = rounded(jnp.maximum(tile.fields["score"][i] - dropped[i], 0) * scale[i])
        mix = mix + rounded(share * rounded(weights[i] * (source - tile.base)))
        divisor = divisor + share
    mix = divided(mix, jnp.where(divisor > 0, divisor, 1))
    return depart(tile.base, rounded(mix * params["lambda"]))


OPERATOR = Operator(
    "pcb",
    "Task vectors averaged element by element, weighted by how they fare in competition; what fares worst is dropped.",
    apply,
    (
        WEIGHT,
        Parameter(
            "ratio",
            "share of each task vector's elements that stay in the competition",
            0.1,
            low=0.0,
            high=1.0,
            search=(0.05, 0.5),
            gridded=True,
        ),
        SCALE,
    ),
    prepare,
    needs_base=True,
    field_bytes=4,
    paper="Du et al. 2024, Parameter Competition Balancing, arXiv:2410.02396",
)
