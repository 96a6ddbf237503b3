"""What a search will need, before a weight is read: memory and time, estimated from sizes."""

import math
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxmerge.objectives.base import PreparedObjective
from jaxmerge.objectives.interface import Objective
from jaxmerge.operators.interface import Operator
from jaxmerge.search.engines.forward import FLOAT32_SHARE
from jaxmerge.search.engines.home import Home
from jaxmerge.search.engines.pool import PooledModels
from jaxmerge.search.engines.sources import Models
from jaxmerge.spaces.dataflow import DataflowSpace

_PROBE = 1024
# Of a device's peak, what a forward pass of some thousand tokens reaches as a rule.
USED = 0.4
# Where a bank is, by its home.
WHERE = {
    "device": "on each of {devices} devices",
    "sharded": "split over {devices} devices",
    "host": "on the host, a layer at a time on each of {devices} devices",
}


def memory_and_time(
    models: Models,
    objectives: Sequence[Objective],
    dtype: np.dtype,
    *,
    home: Home,
    chunk: int,
    population: int,
) -> dict[str, str]:
    """Lines of a dry run, by name. Time: two flops a parameter and token, at the speed of a matmul measured now, or at
    a usual share of the peak of devices that are not here.

    population: candidates of a generation."""
    table = models.table
    sizes = {parameter.path: int(np.prod(table.shape(parameter))) for parameter in table}
    total = sum(sizes.values())
    sources = [*models.experts.values(), *([models.base] if models.base is not None else [])]
    layer = sum(sizes[p.path] for p in table if p.stacked) // table.num_layers * dtype.itemsize
    prepared = [objective for objective in objectives if isinstance(objective, PreparedObjective)]
    generating = any(objective.split("search").prompts for objective in prepared if "search" in objective.splits())
    candidate = home.held(total * dtype.itemsize if generating else layer)
    tokens = sum(map(_tokens, prepared))
    seconds = tokens * 2 * total / _flops(dtype, home)
    return {
        "models": f"{len(sources)} of {total / 1e6:,.1f}M parameters, {table.num_layers} layers",
        "bank": _lying(home.needs.bank, home),
        "candidate": f"{candidate / 2**20:,.1f} MiB of merged weights, {_at_once(chunk, home)}",
        "time": f"about {_lasting(seconds, home)} for {tokens:,} tokens, before compilation",
        "generation": _generation(seconds, population, home),
        "compiles": "once for each kind of program, in the first generation",
    }


def _lying(size: int, home: Home) -> str:
    """What of a bank is where. On the device it is divided over `model`."""
    return f"{home.held(size) / 2**20:,.1f} MiB {WHERE[home.name].format(devices=home.pop * home.model)}"


def _at_once(chunk: int, home: Home) -> str:
    if home.model == 1:
        return f"{chunk} at once on a device"
    return f"on each of its {home.model} devices, {chunk} at once"


def _lasting(seconds: float, home: Home) -> str:
    whose = "and device" if home.model == 1 else f"on its {home.model} devices"
    speed = "" if home.devices.flops is None else f", at {USED:.0%} of a device's peak,"
    return f"{seconds / home.model:.2g} s a candidate {whose}{speed}"


def _generation(seconds: float, population: int, home: Home) -> str:
    """What one costs. seconds: of a candidate on one device."""
    lasts = -(-population // home.pop) * seconds / home.model
    hours = lasts * home.pop * home.model / 3600
    return f"about {lasts:.2g} s for {population} candidates on all devices, {hours:.2g} device-hours"


def bank_bytes(models: Models, operator: Operator | None) -> int:
    """The memory of all sources, and of what an operator prepares for each of their elements."""
    sources = [*models.experts.values(), *([models.base] if models.base is not None else [])]
    stored = sum(info.nbytes for source in sources for info in source.tensors.values())
    elements = sum(math.prod(models.table.shape(parameter)) for parameter in models.table)
    return stored + (operator.element_bytes(len(models.experts)) if operator else 0) * elements


def layers_and_time(
    models: PooledModels,
    space: DataflowSpace,
    objectives: Sequence[Objective],
    dtype: np.dtype,
    *,
    home: Home,
    population: int,
    untuned: Sequence[Operator] = (),
) -> dict[str, str]:
    """The same for a data-flow search, whose time is that of its longest paths. untuned: what makes untuned merges, of
    which each has a bank of its own while it is made."""
    layer, ends = models.sizes
    stored = [info.nbytes for source in models.experts.values() for info in source.tensors.values()]
    prepared = [objective for objective in objectives if isinstance(objective, PreparedObjective)]
    tokens = sum(map(_tokens, prepared))
    seconds = tokens * 2 * (ends + space.hops * layer) / _flops(dtype, home)
    merging = max((bank_bytes(models.one_layout(), operator) for operator in untuned), default=0)
    beside = f", {home.held(merging) / 2**20:,.1f} MiB more while an untuned merge is made" if merging else ""
    pool = ", ".join(f"{name} {depth}" for name, depth in zip(space.pool.names, space.pool.depths, strict=True))
    fewer = [name for name in space.pool.names if name in models.own]
    heads = f"; KV heads of {', '.join(fewer)} repeated to {models.config.num_kv_heads}" if fewer else ""
    return {
        "models": f"{space.pool.size} layers of {layer / 1e6:,.1f}M parameters ({pool}){heads}",
        "hops": f"2 to {space.hops} layers, chosen from {space.slots} slots; scales: {space.scales}",
        "bank": _lying(sum(stored), home) + beside,
        "candidate": f"{home.held(layer * dtype.itemsize) / 2**20:,.1f} MiB of folded weights, up to "
        f"{(ends + space.hops * layer) / 1e6:,.1f}M parameters when exported",
        "time": f"at most {_lasting(seconds, home)} for {tokens:,} tokens, before compilation",
        "generation": _generation(seconds, population, home),
        "compiles": "once for each kind of program, in the first generation, whatever the lengths of the paths",
    }


def _tokens(objective: PreparedObjective) -> int:
    """Tokens that one candidate runs over the search split, counting every new token that it may write."""
    if "search" not in objective.splits():
        return 0
    split = objective.split("search")
    sequences = [tokens for options in (*split.references, *split.prompts) for tokens in options]
    new = len(split.prompts) * objective.config.max_new_tokens
    share = min(1.0, (objective.config.sample or len(split)) / len(split))
    return int(share * (sum(len(tokens.ids) for tokens in sequences) + new))


def _flops(dtype: np.dtype, home: Home) -> float:
    """Flops a second of one device: of a matmul that is run now, or of one that is not here."""
    if home.devices.flops is not None:
        return USED * home.devices.flops * (FLOAT32_SHARE if dtype == np.float32 else 1)
    x = jnp.ones((_PROBE, _PROBE), dtype)
    multiply = jax.jit(lambda x: x @ x)
    jax.block_until_ready(multiply(x))
    started = time.perf_counter()
    jax.block_until_ready(multiply(x))
    return 2 * _PROBE**3 / (time.perf_counter() - started)
