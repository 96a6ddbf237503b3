"""Where a forward pass gets its weights from.

A decoder asks for weights when it needs them and does not know whether they lie in memory or are merged on the spot.
That one seam lets a plain model, a merge inside the layer scan and a data-flow path share one forward pass.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol, Self

import jax
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.table import LAYERS

Params = dict[str, Array]
# The tensors of a layer: arrays, or for a matrix of a linear layer a `Matrix`.
Layer = dict[str, Any]


class Matrix(Protocol):
    """A matrix `[out, in]` that can be applied and is nowhere formed."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def astype(self, dtype: DTypeLike) -> Self: ...

    def apply(self, x: Array) -> Array:
        """`x` `[..., in]` times its transpose: float32 `[..., out]`."""
        ...


def block_of(matrix: Array, start: Array, size: int, shards: int) -> Array:
    """See `Weights.block`."""
    if shards == 1:
        return lax.dynamic_slice_in_dim(matrix, start, size)
    # Cutting across the parts would bring all of them to every device.
    parts = matrix.reshape(shards, -1, *matrix.shape[1:])
    return lax.dynamic_slice_in_dim(parts, start, size, axis=1)


class Weights(Protocol):
    """All arrays come in the compute dtype of the forward pass. `index`, `ids` and `start` may be traced."""

    @property
    def depth(self) -> int | Array:
        """How many layers there are, at most `num_layers` of the config. Where it is traced, one program serves every
        depth, and layers that are not there take no time."""
        ...

    @property
    def vocabulary_shards(self) -> int:
        """Into how many equal parts the rows of embedding and head are divided, each of which lies somewhere else."""
        ...

    def place(self, index: Array) -> Array:
        """Which of the config's `windows` is that of a layer."""
        ...

    def layer(self, index: Array) -> Layer:
        """The tensors of one layer, by path without the leading `layers.`."""
        ...

    def rows(self, path: str, ids: Array) -> Array:
        """Rows `ids` (any shape) of a matrix that is not stacked: `[*ids.shape, columns]`."""
        ...

    def block(self, path: str, start: Array, size: int) -> Any:
        """`size` consecutive rows from row `start` of a matrix that is not stacked; rows past its end are clamped
        as by `lax.dynamic_slice`. Where the rows are divided, these of each part: `[parts, size, columns]`. It may be a
        `Matrix`."""
        ...

    def whole(self, path: str) -> Any:
        """A tensor that is not stacked: an array, or for the head a `Matrix`."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stored:
    """Weights that lie in memory: a flat dictionary of parameters, stacked over layers."""

    params: Params
    vocabulary_shards: int = field(default=1, metadata={"static": True})

    @property
    def depth(self) -> int:
        return next(array.shape[0] for path, array in self.params.items() if path.startswith(LAYERS))

    def place(self, index: Array) -> Array:
        return index

    def layer(self, index: Array) -> Params:
        return {
            path.removeprefix(LAYERS): lax.dynamic_index_in_dim(array, index, keepdims=False)
            for path, array in self.params.items()
            if path.startswith(LAYERS)
        }

    def rows(self, path: str, ids: Array) -> Array:
        return self.params[path][ids]

    def block(self, path: str, start: Array, size: int) -> Array:
        return block_of(self.params[path], start, size, self.vocabulary_shards)

    def whole(self, path: str) -> Array:
        return self.params[path]
