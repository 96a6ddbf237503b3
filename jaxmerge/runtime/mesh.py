"""The one place where a mesh is made, and where arrays go onto it and come back; it may span several processes."""

from functools import cache
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from jaxmerge.errors import InputError

POP = "pop"

Tree = TypeVar("Tree")


def population_mesh(pop: int | None = None) -> Mesh:
    """A mesh whose `pop` axis divides the candidates. pop: devices to use (None: all); InputError if too many, or if a
    process would be left without."""
    devices = jax.devices()
    if pop is not None and not 1 <= pop <= len(devices):
        raise InputError(f"runtime.mesh: pop: {pop} asked, but there are {len(devices)} devices")
    if pop is not None and pop < len(devices) and jax.process_count() > 1:
        raise InputError(
            f"runtime.mesh: pop: {pop} asked, but {jax.process_count()} processes have {len(devices)} devices and "
            "each takes part; write auto, or start fewer processes"
        )
    return Mesh(np.array(devices[: pop or len(devices)]), (POP,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """On every device of the mesh, whole."""
    return NamedSharding(mesh, PartitionSpec())


def place(array: np.ndarray, sharding: Sharding) -> Array:
    """A host's array onto devices. Of several processes each has the whole and places what its own devices need."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: np.ascontiguousarray(array[index]))


def fetch(tree: Any, mesh: Mesh) -> Any:
    """Arrays that are divided over the mesh, whole, on the host of every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.device_get(local(_gather(mesh)(tree)))


def local(tree: Tree) -> Tree:
    """Arrays that lie whole on every device, as this process's own: its first device's copies, which are not copied."""

    def own(array: Any) -> Any:
        return array if getattr(array, "is_fully_addressable", True) else array.addressable_data(0)

    return jax.tree.map(own, tree)


@cache
def _gather(mesh: Mesh) -> Any:
    return jax.jit(_unchanged, out_shardings=replicated(mesh))


def _unchanged(tree: Any) -> Any:
    return tree
