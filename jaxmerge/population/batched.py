"""A population whose candidates share every weight they read: merges that are linear in their sources.

With `W = sum_m c_m W_m` a layer gives `x W^T = sum_m c_m (x W_m^T)`, where only the coefficients differ between
candidates. Under vmap over candidates the sources are the same for all, so that their tokens are folded into one
product with each source: its weights are read once for all candidates of a device. That is dearer in arithmetic, by the
number of sources, and cheaper in memory traffic than a merge of each candidate; `search.engines.forward` weighs them.

Where the operator has a base, the sources are its task vectors, which keeps their precision: what is taken of them may
be much where they are small. Vectors and the rows of the embedding are merged as ever: they are small.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxmerge.architectures.table import LAYERS
from jaxmerge.models.attention import PRECISION
from jaxmerge.models.weights import Layer, Matrix
from jaxmerge.operators.arithmetic import narrowed, widen
from jaxmerge.population.merged import Merged, Merging, Values
from jaxmerge.population.split import Held, block_of, layer_of, whole_of


@dataclass(frozen=True)
class Combination:
    """`sum_m c_m W_m`; implements `models.weights.Matrix`. parts: matrices of one shape, as
    `operators.arithmetic.storable` makes them. coefficients: a float32 number each."""

    parts: tuple[Array, ...]
    coefficients: tuple[Array, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.parts[0].shape

    def astype(self, dtype: DTypeLike) -> Self:
        return replace(self, parts=tuple(narrowed(part, dtype) for part in self.parts))

    def apply(self, x: Array) -> Array:
        products = [c * applied(x, part) for c, part in zip(self.coefficients, self.parts, strict=True)]
        return sum(products[1:], products[0])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batching:
    """Implements `programs.Population`. merging: of an operator that has `coefficients`, over a bank that is whole on
    the device."""

    merging: Merging

    def candidate(self, values: Values) -> "Batched":
        return Batched(self.merging.candidate(values))

    def resident(self, values: Values) -> "Batched":
        return self.candidate(values)


@dataclass(frozen=True)
class Batched:
    """One candidate; implements `models.weights.Weights`."""

    merged: Merged

    @property
    def depth(self) -> int:
        return self.merged.depth

    @property
    def vocabulary_shards(self) -> int:
        return 1

    def place(self, index: Array) -> Array:
        return index

    def layer(self, index: Array) -> Layer:
        paths = [path for path in self._experts if path.startswith(LAYERS)]
        return {path.removeprefix(LAYERS): self.tensor(path, index) for path in paths}

    def tensor(self, path: str, index: Array | None = None) -> Any:
        """A matrix as a `Combination`, anything else merged. index: the layer of a path that is stacked."""

        def cut(array: Held) -> Array:
            return whole_of(array) if index is None else layer_of(array, index)

        if len(self._experts[path][0].shape) - (index is not None) == 2:
            return self._combined(path, cut, index)
        return self.merged.whole(path) if index is None else self.merged.tensor(path, index)

    def rows(self, path: str, ids: Array) -> Array:
        return self.merged.rows(path, ids)

    def block(self, path: str, start: Array, size: int) -> Matrix:
        return self._combined(path, lambda array: block_of(array, start, size))

    def whole(self, path: str) -> Any:
        return self.tensor(path)

    @property
    def _experts(self) -> Any:
        return self.merged.bank.experts

    def _combined(self, path: str, cut: Callable[[Held], Array], index: Array | None = None) -> Combination:
        of_base, of_experts = self.merged.coefficients(path, index)
        base, experts = self.merged.bank.base, self._experts[path]
        parts, numbers = [cut(expert) for expert in experts], [of_experts[k] for k in range(len(experts))]
        if base is not None and self.merged.based:
            own = cut(base[path])
            parts = [own, *(widen(part) - widen(own) for part in parts)]
            numbers = [jnp.asarray(of_base, jnp.float32), *numbers]
        return Combination(tuple(parts), tuple(numbers))


def applied(x: Array, matrix: Array) -> Array:
    """`x` `[..., in]` times the transpose of `[out, in]`: float32 `[..., out]`."""
    return jnp.einsum("...i,oi->...o", x, matrix, precision=PRECISION, preferred_element_type=jnp.float32)
