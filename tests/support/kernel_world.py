"""Sources and merges for the kernels' tests, and the lowering of a kernel for a device that is not here."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.export
import jax.numpy as jnp
import ml_dtypes
import numpy as np

from jaxmerge.kernels.merge_tile import Form, Values
from jaxmerge.operators import OPERATORS
from jaxmerge.operators.arithmetic import storable
from jaxmerge.operators.fused import FORMS, values_of
from jaxmerge.operators.interface import Operator, Request, Sources
from jaxmerge.operators.whole_tensor import complete

SOURCES = 3
DTYPES = {
    "float32": np.dtype(np.float32),
    "bits": np.dtype(ml_dtypes.bfloat16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


@dataclass
class World:
    """A tensor of a base and its fine-tunes, prepared for an operator, and the numbers of some merges."""

    operator: Operator
    form: Form
    base: Any
    sources: tuple[Any, ...]
    stats: dict[str, Any]
    merges: list[dict[str, Any]]

    @property
    def keys(self) -> Any:
        return self.stats.get("key")

    @property
    def values(self) -> Values:
        """Of all merges, with a leading axis."""
        every = [values_of(self.operator.name, self.stats, merge) for merge in self.merges]
        return jax.tree.map(lambda *of_merge: jnp.stack([jnp.asarray(v) for v in of_merge]), *every)


def world(name: str, shape: tuple[int, ...], dtype: str, merges: int = 1) -> World:
    """dtype: "bits" are those of bfloat16 as uint16."""
    rng, operator = np.random.default_rng(0), OPERATORS[name]
    base = rng.normal(size=shape)
    experts = tuple((base + rng.normal(size=shape) * 0.1).astype(DTYPES[dtype]) for _ in range(SOURCES))
    needed = base.astype(DTYPES[dtype]) if operator.needs_base else None
    chosen = []
    for merge in range(merges):
        given = {"weight": [0.31 + merge / 4, 0.77, -0.41], "density": [0.3, 0.55, 0.8], "lambda": 1 - merge / 9}
        given |= {"normalize": merge % 2 == 0, "rescale": True}
        given = {p.name: given[p.name] for p in operator.parameters if p.name in given}
        chosen.append(complete(operator, given, SOURCES))
    grid = {p.name: tuple(chosen[0][p.name].reshape(-1, 1)) for p in operator.parameters if p.gridded}
    grid = {name: values if len(values) == SOURCES else values * SOURCES for name, values in grid.items()}
    prepared = operator.prepare(Sources(needed, experts), Request("t", 3, grid))
    stored = storable if dtype == "bits" else (lambda array: array)
    return World(
        operator,
        FORMS[name],
        None if needed is None else jnp.asarray(stored(needed)),
        tuple(jnp.asarray(stored(expert)) for expert in experts),
        {name: jnp.asarray(array) for name, array in prepared.stats.items()},
        [{name: jnp.asarray(value, jnp.float32) for name, value in merge.items()} for merge in chosen],
    )


def lowered(function: Any, platform: str, *arguments: Any) -> str:
    """The program for "tpu" or "cuda", as text."""
    if platform == "tpu":
        return jax.export.export(jax.jit(function), platforms=["tpu"])(*arguments).mlir_module()
    # A Triton kernel has no form that would be kept over versions, so it is not exported.
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()
