"""The one place where a mesh is made, and where arrays go onto it and come back; it may span several processes.

Its axis `pop` divides the candidates, its axis `model` the weights of each.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import jax
import numpy as np
from jax import Array
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from jaxmerge.errors import InputError

POP, MODEL = "pop", "model"

Tree = TypeVar("Tree")


def make_mesh(pop: int | None = None, model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of `pop` x `model` devices. pop: None: as many as there are for this `model`. devices: all by default.

    Raises InputError where they are not all of the devices, or where the devices of one candidate would be parts of
    several processes.
    """
    chosen = np.array(jax.devices() if devices is None else devices)
    wanted = f"model: {model}" if pop is None else f"pop: {pop}, model: {model}"
    pop = max(1, len(chosen) // model) if pop is None else pop
    if pop * model != len(chosen):
        raise InputError(
            f"runtime.mesh: {{{wanted}}} takes {pop * model} devices, but there are {len(chosen)}; write auto, or "
            "numbers whose product is that of the devices"
        )
    own = len(chosen) // jax.process_count()
    # Devices come process by process, so that a row is within one, or is all of some.
    if own % model and model % own:
        raise InputError(
            f"runtime.mesh: model: {model} neither divides the {own} devices of each process nor is a multiple of "
            "them; take another"
        )
    return _mesh(chosen.reshape(pop, model))


def _mesh(devices: np.ndarray) -> Mesh:
    return Mesh(devices, (POP, MODEL), axis_types=(AxisType.Auto,) * 2)


def own_row(mesh: Mesh) -> Mesh:
    """The devices of one candidate, of which some are this process's: a mesh whose `pop` is 1."""
    row = np.argwhere(mesh.devices == mesh.local_devices[0])[0][0]
    return _mesh(mesh.devices[row : row + 1])


def spans_processes(mesh: Mesh) -> bool:
    """Whether the devices of one candidate are those of several processes."""
    return len({device.process_index for device in mesh.devices[0]}) > 1


def own_device() -> Mesh:
    """One device of this process, for what it does alone."""
    return _mesh(np.array(jax.local_devices()[:1]).reshape(1, 1))


def replicated(mesh: Mesh) -> NamedSharding:
    """On every device of the mesh, whole."""
    return NamedSharding(mesh, PartitionSpec())


def place(array: np.ndarray, sharding: Sharding) -> Array:
    """A host's array onto devices. Of several processes each has the whole and places what its own devices need."""
    if sharding.is_fully_addressable:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: np.ascontiguousarray(array[index]))


def over_pop(mesh: Mesh, function: Callable[..., Any], in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    """`function` on each part of `pop`, with what `in_specs` gives it, as if that were all; `model` is left to the
    compiler, which divides the work as the arrays are divided."""
    return jax.shard_map(
        function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, axis_names={POP}, check_vma=False
    )


def fetch(tree: Any, mesh: Mesh) -> Any:
    """Arrays that are divided over the mesh, whole, on the host of every process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return jax.device_get(jax.tree.map(lambda array: array.addressable_data(0), _gather(mesh)(tree)))


def on_row(tree: Tree, mesh: Mesh) -> Tree:
    """Arrays of which all of `pop` have the same, on this process's row of the mesh alone. Nothing is copied."""
    row = own_row(mesh)
    mine = set(row.devices.flat)

    def own(array: Any) -> Any:
        if not isinstance(array, Array) or not isinstance(array.sharding, NamedSharding):
            return array
        shards = [shard.data for shard in array.addressable_shards if shard.device in mine]
        sharding = NamedSharding(row, array.sharding.spec)
        return jax.make_array_from_single_device_arrays(array.shape, sharding, shards)

    return jax.tree.map(own, tree)


def on_host(array: Array, index: int | None = None) -> np.ndarray:
    """An array, or what is at `index` of its first axis, which is not divided; put together from the parts that this
    process has."""
    # Cut on the devices: fetching the whole array would keep all of it on the host as well.
    parts = {str(shard.index): shard for shard in array.addressable_shards}.values()
    cut = [(shard.index if index is None else shard.index[1:], shard.data) for shard in parts]
    held = [(place, np.asarray(data if index is None else data[index])) for place, data in cut]
    if len(held) == 1:
        return held[0][1]
    whole = np.empty(array.shape if index is None else array.shape[1:], array.dtype)
    for place, part in held:
        whole[place] = part
    return whole


@cache
def _gather(mesh: Mesh) -> Any:
    return jax.jit(_unchanged, out_shardings=replicated(mesh))


def _unchanged(tree: Any) -> Any:
    return tree
