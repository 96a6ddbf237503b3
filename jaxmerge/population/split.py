"""A bank split over the mesh's `pop` axis: each device holds a share of every source, and the part that is merged next
is gathered where it is needed, inside the layer loop.

The functions here cut whole arrays and split ones alike, so that what merges does not know which it has. Gathering
moves bits only: a merge is the same from either.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmerge.models import weights
from jaxmerge.runtime.mesh import POP, place, replicated


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Split:
    """An array of which every device holds a share. axis: along which; never the first where that is the layer's, or
    the row's."""

    array: Array
    axis: int = field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the share; but for the split axis it is the whole's."""
        return self.array.shape

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def spec(self) -> PartitionSpec:
        return PartitionSpec(*(POP if axis == self.axis else None for axis in range(self.array.ndim)))


Held = Array | Split


@dataclass(frozen=True)
class Splitting:
    """Implements `bank.Place` by `placed_split`."""

    mesh: Mesh
    vocabulary_shards: int = 1

    def __call__(self, array: np.ndarray, axes: tuple[str, ...] = ()) -> Held:
        return placed_split(array, self.mesh)


def placed_split(array: np.ndarray, mesh: Mesh) -> Held:
    """A source's array, stacked or not, divided over `pop`; whole on every device where it does not divide evenly.

    Of a stack of matrices each is split by rows, which come together without moving; anything else by its last axis,
    so that layers and rows of the vocabulary stay whole to cut.
    """
    axis = 1 if array.ndim == 3 else array.ndim - 1
    if array.ndim == 0 or array.shape[axis] % mesh.shape[POP] or mesh.shape[POP] == 1:
        return place(array, replicated(mesh))
    spec = PartitionSpec(*(POP if i == axis else None for i in range(array.ndim)))
    return Split(place(array, NamedSharding(mesh, spec)), axis)


def specs(tree: Any) -> Any:
    """How the arrays of a tree lie on the mesh, for `shard_map`: whole everywhere, or split."""

    def spec(leaf: Any) -> PartitionSpec:
        return leaf.spec if isinstance(leaf, Split) else PartitionSpec()

    return jax.tree.map(spec, tree, is_leaf=lambda leaf: isinstance(leaf, Split))


def is_split(tree: Any) -> bool:
    leaves = jax.tree.leaves(tree, is_leaf=lambda leaf: isinstance(leaf, Split))
    return any(isinstance(leaf, Split) for leaf in leaves)


def layer_of(array: Held, index: Array) -> Array:
    """One layer of a stacked array, the same on all devices."""
    if not isinstance(array, Split):
        return lax.dynamic_index_in_dim(array, index, keepdims=False)
    return _gathered(lax.dynamic_index_in_dim(array.array, index, keepdims=False), array.axis - 1)


def own_layer_of(array: Held, index: Array) -> Array:
    """The same where each device may ask for another layer: all cut their shares of everyone's, and send each device
    those of its own. Wants all devices to ask equally often."""
    if not isinstance(array, Split):
        return layer_of(array, index)
    everyones = lax.all_gather(index, POP)
    return lax.all_to_all(array.array[everyones], POP, 0, array.axis, tiled=True)[0]


def rows_of(array: Held, ids: Array) -> Array:
    """Rows `ids` (any shape) of a matrix: `[*ids.shape, columns]`. Each device may ask for its own."""
    if not isinstance(array, Split):
        return array[ids]
    if array.axis == 0:
        return whole_of(array)[ids]
    # Everyone looks its columns of all devices' rows up, and sends each device those of its rows.
    everyones = lax.all_gather(ids, POP)
    return lax.all_to_all(array.array[everyones], POP, 0, ids.ndim + 1, tiled=True)[0]


def block_of(array: Held, start: Array, size: int, shards: int = 1) -> Array:
    """Rows from `start` on, which must be the same on all devices. shards: see `models.weights.block_of`."""
    if not isinstance(array, Split):
        return weights.block_of(array, start, size, shards)
    if array.axis == 0:
        return lax.dynamic_slice_in_dim(whole_of(array), start, size)
    return _gathered(lax.dynamic_slice_in_dim(array.array, start, size), array.axis)


def whole_of(array: Held) -> Array:
    return _gathered(array.array, array.axis) if isinstance(array, Split) else array


def _gathered(share: Array, axis: int) -> Array:
    return lax.all_gather(share, POP, axis=axis, tiled=True)
