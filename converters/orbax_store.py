"""An Orbax checkpoint of a flat dictionary of arrays: written whole, read one array at a time."""

import asyncio
import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax import Array
from jax.sharding import Sharding

from jaxmerge.converters.lazy import AnyParams, LazyArray
from jaxmerge.errors import CheckpointError

# Orbax decodes whole chunks: small ones bound the memory, and let a device read little more than its own part.
CHUNK_BYTES = 1 << 24
Shapes = dict[str, jax.ShapeDtypeStruct]


class LazyArrayHandler(ocp.type_handlers.NumpyHandler):
    """Lets Orbax save lazy arrays, one after the other; they are restored like any other array."""

    def __init__(self) -> None:
        super().__init__(deepcopy_host_arrays=False)

    async def serialize(self, values: Sequence[LazyArray], infos: Sequence[Any], args: Any = None) -> list[Any]:
        for value, info, arg in zip(values, infos, args or [ocp.SaveArgs()] * len(values), strict=True):
            # Written before the next is read. In a thread, since this event loop must go on meanwhile.
            for written in await super().serialize([value.load()], [info], [arg]):
                await asyncio.to_thread(written.result)
        return []


def save(params: AnyParams, folder: Path) -> None:
    """Write the arrays; complete when it returns. OSError where the disk is full."""
    try:
        with _quiet(), _checkpointer() as checkpointer:
            chunks = ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES)
            save_args = dict.fromkeys(params, chunks)
            checkpointer.save(folder.absolute(), args=ocp.args.PyTreeSave(dict(params), save_args=save_args))
    except Exception as error:
        # Orbax's storage reports it as a ValueError.
        if "No space left" in str(error):
            raise OSError(errno.ENOSPC, "No space left on device", str(folder)) from error
        raise


def shapes(folder: Path) -> Shapes:
    """Shape and dtype of every array by name, from the metadata."""
    with _failures_named(folder), _quiet():
        metadata = ocp.PyTreeCheckpointHandler().metadata(folder.absolute()).tree
        return {name: jax.ShapeDtypeStruct(info.shape, info.dtype) for name, info in metadata.items()}


def load_array(folder: Path, name: str, shape: jax.ShapeDtypeStruct, sharding: Sharding) -> Array:
    """One array on devices; every device's part is read on its own."""
    return _restore(folder, name, shape, ocp.ArrayRestoreArgs(sharding=sharding))


def read_array(folder: Path, name: str, shape: jax.ShapeDtypeStruct) -> np.ndarray:
    """One array on the host."""
    return _restore(folder, name, shape, ocp.RestoreArgs(restore_type=np.ndarray))


def _restore(folder: Path, name: str, shape: jax.ShapeDtypeStruct, how: ocp.RestoreArgs) -> Any:
    wanted = ocp.args.PyTreeRestore(item={name: shape}, restore_args={name: how}, partial_restore=True)
    with _failures_named(folder, name), _quiet(), _checkpointer() as checkpointer:
        return checkpointer.restore(folder.absolute(), args=wanted)[name]


def _checkpointer() -> ocp.Checkpointer:
    """The synchronous checkpointer: it neither skips a save nor returns before all is written."""
    handlers = ocp.type_handlers.create_type_handler_registry(
        (jax.Array, ocp.type_handlers.ArrayHandler()),
        (np.ndarray, ocp.type_handlers.NumpyHandler()),
        (LazyArray, LazyArrayHandler()),
    )
    return ocp.Checkpointer(ocp.PyTreeCheckpointHandler(type_handler_registry=handlers))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Orbax's own log, which prints the traceback of an error that it raises as well."""
    log = logging.getLogger("absl")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _failures_named(folder: Path, name: str = "") -> Iterator[None]:
    """What Orbax and its storage raise on files that are missing or corrupt, in one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"parameter '{name}' " if name else ""
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise CheckpointError(f"{folder}: {what}cannot be read ({reason}); convert the model again") from error
