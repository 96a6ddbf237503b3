"""Model Stock: between the base and the models' average, by how far their task vectors agree."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.operators.arithmetic import rounded
from jaxmerge.operators.gram import gram, norms_of, row_gram
from jaxmerge.operators.interface import (
    Coefficients,
    Operator,
    Parameter,
    Params,
    Prepared,
    Request,
    Sources,
    Stats,
    Tile,
)


def share_of_average(products: np.ndarray) -> np.ndarray:
    """How much of the average is taken, float32 `[...]`: `N c / (1 + (N - 1) c)` with the mean cosine c of N task
    vectors. products: their Gram matrices, float64 `[..., N, N]`."""
    count = products.shape[-1]
    norms = norms_of(products)
    one, other = np.triu_indices(count, 1)
    lengths = np.maximum(norms[..., one] * norms[..., other], 1e-6)
    cosine = np.clip(products[..., one, other] / lengths, -1.0, 1.0).mean(axis=-1)
    divisor = 1 + (count - 1) * cosine
    vanishes = np.abs(divisor) < 1e-6
    return np.asarray(np.where(vanishes, 0.0, count * cosine / np.where(vanishes, 1.0, divisor)), np.float32)


def prepare(sources: Sources, request: Request) -> Prepared:
    """The share of the average, a number, or of each row as a field of one column."""
    if request.grid["filter_wise"][0][0]:
        share = share_of_average(row_gram(sources.experts, sources.base))
        return Prepared(fields={"share": (share[..., None],)})
    return Prepared({"share": share_of_average(gram(sources.experts, sources.base))})


def apply(tile: Tile, stats: Stats, params: Params) -> Array:
    assert tile.base is not None
    share = tile.fields["share"][0] if tile.fields else stats["share"]
    total = tile.sources[0]
    for source in tile.sources[1:]:
        total = total + source
    average = rounded(total * np.float32(1 / len(tile.sources)))
    merged = rounded(share * average) + rounded((1 - share) * tile.base)
    return jnp.where(share == 0, tile.base, merged)


def coefficients(stats: Stats, params: Params, count: int, based: bool) -> Coefficients:
    return 1.0, jnp.full(count, stats["share"] / count)


OPERATOR = Operator(
    "model_stock",
    "Between the base and the average of the models, the nearer to it the more their task vectors agree.",
    apply,
    (
        Parameter(
            "filter_wise",
            "agreement is measured row by row, not of the whole tensor",
            False,
            kind="flag",
            gridded=True,
        ),
    ),
    prepare,
    needs_base=True,
    min_sources=2,
    lacking="merge_rest",
    coefficients=coefficients,
    rows_apart=("filter_wise", True),
    paper="Jang et al. 2024, Model Stock, arXiv:2403.19522",
)
