"""Hugging Face checkpoints to parameters and back. Only bytes move: no transposes, no permutations, no
folding."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Sharding

from jaxmerge.architectures.table import Parameter, Table
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.companions import ModelFolder, copy_companions
from jaxmerge.converters.config_changes import changed_config, settle_config
from jaxmerge.converters.finite import is_finite, require_finite
from jaxmerge.converters.fit import EMBEDDING, HEAD, require_fit
from jaxmerge.converters.lazy import AnyParams, LazyArray
from jaxmerge.converters.output_folder import output_folder
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE, ShardWriter
from jaxmerge.errors import CheckpointError

Place = Callable[[Parameter], Sharding]
Params = dict[str, Array]
Bounds = tuple[tuple[int, int], ...]


def load_params(
    checkpoint: Checkpoint, table: Table, dtype: np.dtype | None = None, place: Place | None = None
) -> Params:
    """The checkpoint's parameters by path, stacked over layers as `table` says.

    dtype: what to cast to; None keeps the checkpoint's. place: the sharding of a row of the table, for the
    array with its layer axis; None puts everything on the default device. One row is loaded after another:
    host memory holds at most the largest stacked array and one layer's slice of it. Raises CheckpointError
    where tensors do not fit the table, are NaN or infinite, or too large for `dtype`.
    """
    require_fit(checkpoint, table)
    return {
        parameter.path: load_parameter(checkpoint, table, parameter, dtype, place(parameter) if place else None)
        for parameter in table
    }


def lazy_params(checkpoint: Checkpoint, table: Table) -> dict[str, LazyArray]:
    """The same parameters, checked by their headers and read one by one when they are written elsewhere."""
    require_fit(checkpoint, table)
    return {
        parameter.path: LazyArray(
            table.shape(parameter),
            checkpoint.info(parameter.names(table.num_layers)[0]).dtype,
            partial(read_parameter, checkpoint, table, parameter),
        )
        for parameter in table
    }


def load_parameter(
    checkpoint: Checkpoint,
    table: Table,
    parameter: Parameter,
    dtype: np.dtype | None = None,
    sharding: Sharding | None = None,
) -> Array:
    """One row of the table as a (stacked) array; `load_params` says how."""
    shape = table.shape(parameter)
    if sharding is None:
        return jax.block_until_ready(jax.device_put(read_parameter(checkpoint, table, parameter, dtype)))

    # Called once a device: replicas ask for the same block.
    blocks: dict[Bounds, np.ndarray] = {}

    def cached(index: Any) -> np.ndarray:
        bounds = tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))
        if bounds not in blocks:
            blocks[bounds] = read_parameter(checkpoint, table, parameter, dtype, bounds)
        return blocks[bounds]

    # Waiting keeps the next row from being read while this one is still on the host.
    return jax.block_until_ready(jax.make_array_from_callback(shape, sharding, cached))


def read_parameter(
    checkpoint: Checkpoint,
    table: Table,
    parameter: Parameter,
    dtype: np.dtype | None = None,
    bounds: Bounds | None = None,
) -> np.ndarray:
    """One row of the table on the host, or the block of it that `bounds` (start, stop on each axis) cuts
    out."""
    names = parameter.names(table.num_layers)
    bounds = bounds or tuple((0, size) for size in table.shape(parameter))
    dtype = np.dtype(dtype or checkpoint.info(names[0]).dtype)
    if not parameter.stacked:
        return _read_block(checkpoint, names[0], bounds, dtype)
    stacked = np.empty([stop - start for start, stop in bounds], dtype)
    for row, name in enumerate(names[slice(*bounds[0])]):
        stacked[row] = _read_block(checkpoint, name, bounds[1:], dtype)
    return stacked


def save_params(
    params: AnyParams,
    table: Table,
    folder: Path,
    *,
    like: ModelFolder,
    dtype: np.dtype | None = None,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
    layers: Sequence[int] | None = None,
    force: bool = False,
) -> None:
    """Write parameters as a Hugging Face folder, one after the other; the folder appears when it is complete.

    like: where config.json, generation config, tokenizer and chat template are copied from; config.json is
    changed only where the parameters differ from it (layers, vocabulary, tied embeddings) and where a `dtype`
    is given. dtype: what to cast to (to nearest even); None keeps each parameter's. layers: for each layer of
    `params` the layer of `like` it stands for in lists that hold a value a layer.
    """
    if set(params) != {parameter.path for parameter in table}:
        raise ValueError("the parameters are not those of the table")
    entries = []
    for parameter in table:
        array = params[parameter.path]
        if array.shape != table.shape(parameter):
            raise ValueError(f"{parameter.path} is {array.shape} but the table makes it {table.shape(parameter)}")
        target = np.dtype(dtype or array.dtype)
        entries += [(name, target, parameter.shape) for name in parameter.names(table.num_layers)]
    config = changed_config(
        like.config,
        num_layers=table.num_layers,
        layers=layers,
        vocab_size=table[EMBEDDING].shape[0],
        tied=HEAD not in params,
        dtype=dtype,
    )
    with output_folder(folder, force=force) as part:
        with ShardWriter(part, entries, max_shard_size) as writer:
            for parameter in table:
                array = params[parameter.path]
                target = np.dtype(dtype or array.dtype)
                for name, tensor in zip(parameter.names(table.num_layers), _layers_of(parameter, array), strict=True):
                    writer.write(name, cast(name, tensor, target))
        copy_companions(like.folder, part)
        settle_config(config, part)


def _read_block(checkpoint: Checkpoint, name: str, bounds: Bounds, dtype: np.dtype) -> np.ndarray:
    rows = checkpoint.read_rows(name, *bounds[0])
    block = rows[(slice(None), *(slice(*bound) for bound in bounds[1:]))]
    require_finite(f"{checkpoint.info(name).file}: tensor '{name}'", block)
    return cast(name, block, dtype)


def cast(name: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A tensor in another dtype, to nearest even. CheckpointError naming it where a value is too large for that."""
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        cast = array.astype(dtype)
    if not is_finite(cast):
        raise CheckpointError(f"tensor '{name}' has values beyond {dtype}; choose bfloat16 or float32")
    return cast


def _layers_of(parameter: Parameter, array: Array | LazyArray) -> Iterator[np.ndarray]:
    """The tensors of a row on the host. Of an array on a device one layer at a time is fetched."""
    if isinstance(array, LazyArray):
        loaded = array.load()
        yield from loaded if parameter.stacked else [loaded]
    elif parameter.stacked:
        for layer in range(array.shape[0]):
            yield np.asarray(_take(array, layer))
    else:
        yield np.asarray(array)


@jax.jit
def _take(array: Array, layer: int) -> Array:
    """One layer; the index is traced, so that each shape is compiled once and not once a layer."""
    return lax.dynamic_index_in_dim(array, layer, keepdims=False)
