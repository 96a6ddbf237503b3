"""Flax folders: an Orbax checkpoint of the flat dictionary of parameters, beside the files that travel with a
model.

`params/` is the checkpoint, `jaxmerge.json` says what the folder is, config.json and the rest are copied
unchanged.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax import Array
from jax.sharding import SingleDeviceSharding

from jaxmerge.architectures.table import Parameter, Table
from jaxmerge.converters.checkpoint import read_config, read_json
from jaxmerge.converters.companions import ModelFolder, copy_companions
from jaxmerge.converters.fit import FLOATS
from jaxmerge.converters.hf import Params, Place
from jaxmerge.converters.output_folder import output_folder
from jaxmerge.errors import CheckpointError

MARKER = "jaxmerge.json"
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
        marker = read_json(folder / MARKER)
        version = marker.get("version") if isinstance(marker, dict) else None
        if version != VERSION:
            raise CheckpointError(
                f"{folder / MARKER}: version is {version!r}, not {VERSION}; convert the model again"
            )
        with _failures_named(folder):
            metadata = ocp.PyTreeCheckpointHandler().metadata(_params(folder)).tree
            tensors = {path: jax.ShapeDtypeStruct(info.shape, info.dtype) for path, info in metadata.items()}
        return cls(folder, config, tensors)


def is_flax_folder(folder: Path) -> bool:
    return (folder / MARKER).is_file()


def save(params: Params, folder: Path, *, like: ModelFolder, force: bool = False) -> None:
    """Write parameters with the companions of `like`; the folder appears when it is complete."""
    with output_folder(folder, force=force) as part:
        with _checkpointer() as checkpointer:
            checkpointer.save(_params(part), args=ocp.args.PyTreeSave(params))
        copy_companions(like.folder, part)
        dtypes = sorted({np.dtype(array.dtype).name for array in params.values()})
        marker = {"format": "flax", "version": VERSION, "dtype": dtypes[0] if len(dtypes) == 1 else dtypes}
        (part / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")


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
        raise CheckpointError(
            f"{source.folder}: parameter '{min(extra)}' is not a part of this architecture; {remedy}"
        )


def load(
    source: FlaxFolder, table: Table, dtype: np.dtype | None = None, place: Place | None = None
) -> Params:
    """The folder's parameters, one after the other; arguments as of `hf.load_params`."""
    require_fit(source, table)
    return {parameter.path: load_parameter(source, parameter, dtype, place) for parameter in table}


def load_parameter(
    source: FlaxFolder, parameter: Parameter, dtype: np.dtype | None = None, place: Place | None = None
) -> Array:
    """One parameter. Orbax reads by sharding, so that every device's part is read on its own."""
    path = parameter.path
    sharding = place(parameter) if place else SingleDeviceSharding(jax.local_devices()[0])
    with _failures_named(source.folder), _checkpointer() as checkpointer:
        restored = checkpointer.restore(
            _params(source.folder),
            args=ocp.args.PyTreeRestore(
                item={path: source.tensors[path]},
                restore_args={path: ocp.ArrayRestoreArgs(sharding=sharding)},
                partial_restore=True,
            ),
        )
    array = restored[path]
    if not _is_finite(array):
        raise CheckpointError(f"{source.folder}: parameter '{path}' has NaN or infinite values")
    if dtype is None or array.dtype == dtype:
        return array
    array = array.astype(dtype)
    if not _is_finite(array):
        raise CheckpointError(
            f"{source.folder}: parameter '{path}' has values beyond {np.dtype(dtype)}; choose bfloat16"
        )
    return array


@jax.jit
def _is_finite(array: Array) -> Array:
    return jnp.isfinite(array).all()


def _params(folder: Path) -> Path:
    # Orbax takes absolute paths only.
    return folder.absolute() / PARAMS


def _checkpointer() -> ocp.Checkpointer:
    """The synchronous checkpointer: it neither skips a save nor returns before all is written."""
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler())


@contextmanager
def _failures_named(folder: Path) -> Iterator[None]:
    """What Orbax and its storage raise on files that are missing or corrupt, in one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"{_params(folder)}: cannot be read ({reason[:200]}); convert the model again"
        ) from error
