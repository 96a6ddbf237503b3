"""What a search will need, before a weight is read: memory and time, estimated from sizes."""

import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmerge.objectives.interface import Objective
from jaxmerge.search.sources import Models

_PROBE = 1024


def memory_and_time(
    models: Models, objectives: Sequence[Objective], dtype: np.dtype, *, block: int, chunk: int
) -> dict[str, str]:
    """Lines of a dry run, by name. Time: two flops a parameter and token, at the speed of a matmul measured now."""
    table = models.table
    sizes = {parameter.path: int(np.prod(table.shape(parameter))) for parameter in table}
    total = sum(sizes.values())
    sources = [*models.experts.values(), *([models.base] if models.base is not None else [])]
    bank = sum(info.nbytes for source in sources for info in source.tensors.values())
    layer = sum(sizes[p.path] for p in table if p.stacked) // table.num_layers * dtype.itemsize
    generating = any(hasattr(objective, "stop_ids") for objective in objectives)
    candidate = total * dtype.itemsize if generating else layer
    seconds = 2 * total / _flops(dtype)
    return {
        "models": f"{len(sources)} of {total / 1e6:,.1f}M parameters, {table.num_layers} layers",
        "bank": f"{bank / 2**20:,.0f} MiB a device, {block // chunk} devices",
        "candidate": f"{candidate / 2**20:,.1f} MiB of merged weights each, {chunk} at once on a device",
        "time": f"about {seconds * 1e3:.3g} ms a thousand tokens and candidate".replace("e+", "e"),
    }


def _flops(dtype: np.dtype) -> float:
    """Flops a second of one matmul on one device."""
    x = jnp.ones((_PROBE, _PROBE), dtype)
    multiply = jax.jit(lambda x: x @ x)
    jax.block_until_ready(multiply(x))
    started = time.perf_counter()
    jax.block_until_ready(multiply(x))
    return 2 * _PROBE**3 / (time.perf_counter() - started)
