"""The one place where a mesh is made."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from jaxmerge.errors import InputError

POP = "pop"


def population_mesh(pop: int | None = None) -> Mesh:
    """A mesh whose `pop` axis divides the candidates. pop: devices to use (None: all); InputError if too many."""
    devices = jax.devices()
    if pop is not None and not 1 <= pop <= len(devices):
        raise InputError(f"runtime.mesh: pop: {pop} asked, but there are {len(devices)} devices")
    return Mesh(np.array(devices[: pop or len(devices)]), (POP,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """On every device of the mesh, whole."""
    return NamedSharding(mesh, PartitionSpec())
