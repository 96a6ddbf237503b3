"""What a config asks of any engine, checked before weights are read."""

import inspect
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.errors import InputError
from jaxmerge.objectives.interface import Objective
from jaxmerge.operators.registry import operator
from jaxmerge.runtime.dtype import compute_dtype
from jaxmerge.runtime.mesh import make_mesh, spans_processes
from jaxmerge.runtime.placement import Placement, model_axes
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


def require_references(objectives: Sequence[Objective]) -> None:
    """Objectives that no gradient can follow are refused."""
    for objective in objectives:
        if not hasattr(objective, "reference"):
            raise InputError(
                f"search: '{objective.name}' gives a gradient nothing to follow; give its kind a "
                "reference(split, draw), or search without adam, warm_start and screening"
            )
        objective.reference("search")


def model_choices(config: EvolveConfig, layout: DecoderConfig, devices: int) -> tuple[int, ...]:
    """The sizes that `model` may have in `runtime.mesh: auto`, ascending. devices: over which a candidate may be
    divided. What needs a whole tensor or row would give other bits where that is divided than in the export."""
    return (1,) if _of_whole_tensors(config) else model_axes(layout, devices)


def mesh_of(config: EvolveConfig, layout: DecoderConfig, *, spans: bool) -> Mesh | None:
    """The mesh that a config asks for, None for auto. spans: whether a candidate may be divided over processes.
    Raises InputError where there is none such."""
    wanted = config.runtime.mesh
    if wanted == "auto":
        return None
    mesh = make_mesh(wanted.pop, wanted.model)
    Placement.of(layout, mesh)
    if spans_processes(mesh) and not spans:
        raise InputError(
            f"runtime.mesh: model: {wanted.model} divides a candidate over several processes, which is there for "
            f"space.kind: parameter only; take at most the {len(mesh.local_devices)} devices of one"
        )
    if wanted.model > 1 and (name := _of_whole_tensors(config)):
        raise InputError(
            f"runtime.mesh: model: {wanted.model} divides the tensors, and {name} merges whole ones; use model: 1"
        )
    return mesh


def _of_whole_tensors(config: EvolveConfig) -> str | None:
    """The first operator of a search that merges no element alone."""
    names = [merge.operator for merge in untuned(config) if merge.operator is not None]
    searched = [config.space.operator] if config.space.merges else []
    return next((name for name in (*names, *searched) if operator(name).scope != "element"), None)


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
