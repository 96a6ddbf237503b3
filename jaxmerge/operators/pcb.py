"""PCB: the elements of the task vectors compete, each by its own size and by how far the others agree with it.

Of N task vectors t_i, the score of an element of t_i is `exp(N norm(|t_i|)^2) tanh(t_i sum_j t_j)`: intra-balancing
times inter-balancing, norm bringing a task's values to [0, 1], as in the authors' code. Scores below those of the
largest `ratio` are dropped, the others brought to [0, 1], and task vectors averaged with them as weights. Ratio and
norm are of a tensor, where the paper's are of the whole model.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import depart, divided, rounded
from jaxmerge.operators.grid import nearest
from jaxmerge.operators.interface import Operator, Parameter, Params, Prepared, Request, Sources, Stats, Tile
from jaxmerge.operators.tall_mask import WEIGHT
from jaxmerge.operators.task_matrices import task_vectors
from jaxmerge.operators.task_vector import SCALE
from jaxmerge.operators.trims.trim import slices


def scores(deltas: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each element's score, at most 1 in magnitude for each task: float32 `[n]`. deltas: the flat task vectors."""
    count, found = len(deltas), [np.empty_like(delta) for delta in deltas]
    ends = [(float(size.min()), float(size.max())) for size in map(np.abs, deltas)]
    for cut in slices(deltas[0].size):
        parts = [delta[cut].astype(np.float64) for delta in deltas]
        total = sum(parts[1:], start=parts[0])
        for own, part, (least, most) in zip(found, parts, ends, strict=True):
            share = (np.abs(part) - least) / ((most - least) or 1.0)
            # What is the same for all elements of a task falls out when scores are brought to [0, 1]: exp(-N), and the
            # largest that tanh can be, without which small products would vanish in float32.
            largest = np.tanh(most * sum(end for _, end in ends)) or 1.0
            own[cut] = np.exp(count * (np.square(share) - 1)) * np.tanh(part * total) / largest
    return found


def prepare(sources: Sources, request: Request) -> Prepared:
    """The scores, a field for each source; the largest that is dropped and what brings the rest to [0, 1], float32
    `[G, K]` on the ratio grid."""
    deltas = [delta.reshape(-1) for delta in task_vectors(sources, request)]
    grid, count = request.grid["ratio"][0], len(deltas)
    dropped, scale = np.zeros((2, len(grid), count), np.float32)
    shape, size = sources.experts[0].shape, deltas[0].size
    found = scores(deltas) if size else deltas
    places = np.minimum((size * (1 - grid)).astype(np.int64), size - 1)
    for i, score in enumerate(found if size else ()):
        dropped[:, i] = np.partition(score, np.unique(places))[places]
        span = score.max() - dropped[:, i]
        scale[:, i] = np.where(span > 0, 1 / np.where(span > 0, span, 1), 0)
    stats = {"ratio": grid.astype(np.float32), "dropped": dropped, "scale": scale}
    return Prepared(stats, {"score": tuple(score.reshape(shape) for score in found)})


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
