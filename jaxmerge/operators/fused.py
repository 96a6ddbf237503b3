"""The operators that `kernels.merge_tile` and `kernels.merged_matmul` compute, and their numbers for one merge."""

import jax.numpy as jnp

from jaxmerge.kernels.merge_tile import Form, Values
from jaxmerge.operators.interface import Params, Stats
from jaxmerge.operators.trims import random
from jaxmerge.operators.trims.trim import at

FORMS = {
    "linear": Form(),
    "task_arithmetic": Form(),
    "ties": Form("magnitude", elect=True),
    "dare_linear": Form("random"),
    "dare_ties": Form("random", elect=True),
}


def values_of(name: str, stats: Stats, params: Params) -> Values:
    """What an operator of `FORMS` looks up and derives for one merge before it goes through the elements.

    stats: of the operator's `prepare`, without recorded masks; params: of one merge. A kernel that is given the
    values, the sources and `stats["key"]` gives the bits of the operator's `apply`.
    """
    form = FORMS[name]
    weight = jnp.asarray(params["weight"], jnp.float32)
    scale, normalize = params.get("lambda", 1.0), params["normalize"]
    if form.trim == "none":
        return Values(weight, scale, normalize)
    sources = range(len(weight))
    if form.trim == "magnitude":
        ratios = [at("ratio", i, stats, params, "density") for i in sources]
        limits = {"threshold": jnp.stack([at("threshold", i, stats, params, "density") for i in sources])}
    else:
        ratios = [random.ratio(i, stats, params) for i in sources]
        limits = {"below": jnp.stack([at("below", i, stats, params, "density") for i in sources])}
    return Values(weight, scale, normalize, ratio=jnp.where(params["rescale"] != 0, jnp.stack(ratios), 1.0), **limits)
