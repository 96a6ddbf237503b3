"""What a config asks of any engine, checked before weights are read."""

import inspect
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmerge.errors import InputError
from jaxmerge.objectives.interface import Objective
from jaxmerge.operators.registry import operator
from jaxmerge.runtime.dtype import compute_dtype
from jaxmerge.runtime.mesh import MODEL
from jaxmerge.search.baselines import untuned
from jaxmerge.search.config import EvolveConfig


def require_blocks(objectives: Sequence[Objective]) -> None:
    """Of the user's own kinds, those that a cheap evaluation cannot ask for a few examples are refused."""
    for objective in objectives:
        if "block" not in inspect.signature(objective.score).parameters:
            raise InputError(
                f"search.evaluation: '{objective.name}' cannot be scored on a few examples at a time; give its "
                "score(runner, split, draw) the parameter block=None, or use kind full"
            )


def require_divisible(config: EvolveConfig, mesh: Mesh) -> None:
    """What needs a whole tensor or row would give other bits where that is divided than in the export."""
    if mesh.shape[MODEL] == 1:
        return
    names = [merge.operator for merge in untuned(config) if merge.operator is not None]
    for name in [*names, *([config.space.operator] if config.space.kind != "dataflow" else [])]:
        if operator(name).scope != "element":
            raise InputError(
                f"runtime.mesh: model: {mesh.shape[MODEL]} divides the tensors, and {name} merges whole ones; "
                "use model: 1"
            )


def dtype_of(config: EvolveConfig) -> np.dtype:
    """`runtime.dtype`. Only float32 may be narrowed in the export: other changes would round twice, or pretend to more
    than was scored."""
    dtype = compute_dtype(config.runtime.dtype)
    out = np.dtype(jnp.dtype(config.output.dtype or dtype))
    if dtype not in (out, np.dtype(np.float32)):
        raise InputError(
            f"output.dtype: {out.name} cannot hold what is scored in runtime.dtype, {dtype.name}; "
            f"remove it or set runtime.dtype: {out.name}"
        )
    return dtype
