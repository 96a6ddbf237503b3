"""Flax folders: an Orbax checkpoint of the flat dictionary of parameters, beside the files that travel with it.

`params/` is the checkpoint, `jaxmerge.json` says what the folder is, config.json and the rest are copied unchanged.
Orbax takes more than a second to import: it is, where such a folder is read or written.
"""

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import SingleDeviceSharding

from jaxmerge.architectures.table import Parameter, Table
from jaxmerge.converters.checkpoint import FLAX_MARKER, read_config, read_json
from jaxmerge.converters.companions import ModelFolder, copy_companions
from jaxmerge.converters.config_changes import settle_config
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.fit import FLOATS
from jaxmerge.converters.hf import Params, Place
from jaxmerge.converters.lazy import AnyParams, LazyArray
from jaxmerge.converters.output_folder import output_folder
from jaxmerge.errors import CheckpointError

PARAMS = "params"
VERSION = 1


@dataclass(frozen=True)
class FlaxFolder:
    """folder: where it lies. config: its config.json. tensors: shape and dtype of every parameter by path."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, jax.ShapeDtypeStruct] = field(repr=False)

    @classmethod
    def open(cls, folder: str | Path) -> "FlaxFolder":
        """Read config and metadata. CheckpointError where the folder is not a complete Flax folder."""
        folder = Path(folder)
        config = read_config(folder)
        marker = read_json(folder / FLAX_MARKER)
        version = marker.get("version") if isinstance(marker, dict) else None
        if version != VERSION:
            raise CheckpointError(
                f"{folder / FLAX_MARKER}: version is {version!r}, not {VERSION}; convert the model again"
            )
        from jaxmerge.converters import orbax_store

        return cls(folder, config, orbax_store.shapes(folder / PARAMS))


def is_flax_folder(folder: Path) -> bool:
    return (folder / FLAX_MARKER).is_file()


def save(params: AnyParams, folder: Path, *, like: ModelFolder, force: bool = False) -> None:
    """Write parameters with the companions of `like`; the folder appears when it is complete."""
    from jaxmerge.converters import orbax_store

    with output_folder(folder, force=force) as part:
        orbax_store.save(params, part / PARAMS)
        copy_companions(like.folder, part)
        settle_config(like.config, part)
        dtypes = sorted({np.dtype(array.dtype).name for array in params.values()})
        marker = {"format": "flax", "version": VERSION, "dtype": dtypes[0] if len(dtypes) == 1 else dtypes}
        (part / FLAX_MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


def require_fit(source: FlaxFolder, table: Table) -> None:
    """Raise CheckpointError naming the first parameter that is missing, extra, or of a wrong shape or
    dtype."""
    remedy = "check that config.json belongs to these weights"
    for parameter in table:
        if parameter.path not in source.tensors:
            raise CheckpointError(f"{source.folder}: parameter '{parameter.path}' is missing; {remedy}")
        found = source.tensors[parameter.path]
        if found.shape != table.shape(parameter):
            raise CheckpointError(
                f"{source.folder}: parameter '{parameter.path}' is {list(found.shape)} but config.json makes "
                f"it {list(table.shape(parameter))}; {remedy}"
            )
        if found.dtype not in FLOATS:
            raise CheckpointError(
                f"{source.folder}: parameter '{parameter.path}' is {found.dtype}; save it in BF16, F16 or F32"
            )
    extra = set(source.tensors) - {parameter.path for parameter in table}
    if extra:
        raise CheckpointError(f"{source.folder}: parameter '{min(extra)}' is not a part of this architecture; {remedy}")


def load(source: FlaxFolder, table: Table, dtype: np.dtype | None = None, place: Place | None = None) -> Params:
    """The folder's parameters, one after the other; arguments as of `hf.load_params`."""
    require_fit(source, table)
    return {parameter.path: load_parameter(source, parameter, dtype, place) for parameter in table}


def lazy_params(source: FlaxFolder, table: Table) -> dict[str, LazyArray]:
    """The same parameters, checked by their metadata and read one by one when they are written elsewhere."""
    require_fit(source, table)
    return {
        path: LazyArray(tensor.shape, np.dtype(tensor.dtype), partial(read_parameter, source, path))
        for path, tensor in source.tensors.items()
    }


def load_parameter(
    source: FlaxFolder, parameter: Parameter, dtype: np.dtype | None = None, place: Place | None = None
) -> Array:
    """One parameter. Orbax reads by sharding, so that every device's part is read on its own."""
    from jaxmerge.converters import orbax_store

    path = parameter.path
    sharding = place(parameter) if place else SingleDeviceSharding(jax.local_devices()[0])
    array = orbax_store.load_array(source.folder / PARAMS, path, source.tensors[path], sharding)
    if not _is_finite(array):
        raise CheckpointError(f"{source.folder}: parameter '{path}' has NaN or infinite values")
    if dtype is None or array.dtype == dtype:
        return array
    array = array.astype(dtype)
    if not _is_finite(array):
        raise CheckpointError(
            f"{source.folder}: parameter '{path}' has values beyond {np.dtype(dtype)}; choose bfloat16 or float32"
        )
    return array


def read_parameter(source: FlaxFolder, path: str) -> np.ndarray:
    """One parameter on the host, as it is on disk."""
    from jaxmerge.converters import orbax_store

    array = orbax_store.read_array(source.folder / PARAMS, path, source.tensors[path])
    require_finite(f"{source.folder}: parameter '{path}'", array)
    return array


@jax.jit
def _is_finite(array: Array) -> Array:
    return jnp.isfinite(array).all()
