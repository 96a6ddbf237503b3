"""A population whose sources are LoRAs on one model, which are not applied to it: only model and factors are held.

With experts `W_i = W + s_i B_i A_i` a merge that is linear in them is `c W + sum_i c_i s_i B_i A_i`, so that a layer
gives `c x W^T` and `((x A^T) * c s) B^T` over the factors of all experts side by side. As in `batched`, all candidates
of a device share what is read.

A LoRA that the ordinary road applies is rounded to the dtype of the model first; here it is not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.typing import DTypeLike

from jaxmerge.architectures.table import LAYERS, Parameter, Table
from jaxmerge.models.weights import Layer, Matrix
from jaxmerge.operators.arithmetic import narrowed, storable, widen
from jaxmerge.population.bank import Place, Source, stack
from jaxmerge.population.batched import Batched, applied
from jaxmerge.population.merged import Merging, Values


class LoraSource(Source, Protocol):
    """A model with a LoRA on it; see `converters.adapted.Adapted`."""

    def factors(self, name: str) -> tuple[np.ndarray, np.ndarray, float] | None: ...

    def replaces(self, name: str) -> bool: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factors:
    """What the LoRAs add to a matrix, side by side, R ranks in all: down `[R, in]`, up `[out, R]`, scales float32
    `[R]`, 0 where a LoRA has less ranks in this layer than in another; with a leading layer axis where the matrix is
    stacked. owners: which expert each rank belongs to."""

    down: Array
    up: Array
    scales: Array
    owners: tuple[int, ...] = field(metadata={"static": True})

    def of_layer(self, index: Array) -> "Factors":
        return jax.tree.map(lambda array: lax.dynamic_index_in_dim(array, index, keepdims=False), self)


@dataclass(frozen=True)
class WithFactors:
    """`total * W + up @ diag(weights) @ down`; implements `models.weights.Matrix`. added: down, up and weights, float32
    `[R]`; None where nothing is."""

    matrix: Array
    total: Array
    added: tuple[Array, Array, Array] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.matrix.shape

    def astype(self, dtype: DTypeLike) -> Self:
        matrix = narrowed(self.matrix, dtype)
        if self.added is None:
            return replace(self, matrix=matrix)
        down, up, weights = self.added
        return replace(self, matrix=matrix, added=(narrowed(down, dtype), narrowed(up, dtype), weights))

    def apply(self, x: Array) -> Array:
        own = self.total * applied(x, self.matrix)
        if self.added is None:
            return own
        down, up, weights = self.added
        return own + applied((applied(x, down) * weights).astype(x.dtype), up)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Lora:
    """Implements `programs.Population`.

    model: its tensors by path, factors: what is added to them. Both are on every device, as
    `operators.arithmetic.storable` makes them. merging: of the tensors that a LoRA gives as a whole; its bank has no
    others. count: of the experts.
    """

    model: dict[str, Array]
    factors: dict[str, Factors]
    merging: Merging
    count: int = field(metadata={"static": True})

    def candidate(self, values: Values) -> "LoraMerged":
        return LoraMerged(self, Batched(self.merging.candidate(values)))

    def resident(self, values: Values) -> "LoraMerged":
        return self.candidate(values)


@dataclass(frozen=True)
class LoraMerged:
    """One candidate; implements `models.weights.Weights`. given: its tensors that a LoRA gives as a whole."""

    lora: Lora
    given: Batched

    @property
    def depth(self) -> int:
        return next(array.shape[0] for path, array in self.lora.model.items() if path.startswith(LAYERS))

    @property
    def vocabulary_shards(self) -> int:
        return 1

    def place(self, index: Array) -> Array:
        return index

    def layer(self, index: Array) -> Layer:
        paths = [path for path in self.lora.model if path.startswith(LAYERS)]
        return {path.removeprefix(LAYERS): self._tensor(path, index) for path in paths}

    def rows(self, path: str, ids: Array) -> Array:
        if path in self._given:
            return self.given.rows(path, ids)
        found = self._adapted(path)
        rows = found.total * widen(found.matrix[ids])
        if found.added is not None:
            down, up, weights = found.added
            rows = rows + applied(widen(up[ids]) * weights, widen(down).T)
        return rows.astype(self.given.merged.dtype)

    def block(self, path: str, start: Array, size: int) -> Matrix:
        if path in self._given:
            return self.given.block(path, start, size)
        found = self._adapted(path)

        def cut(array: Array) -> Array:
            return lax.dynamic_slice_in_dim(array, start, size)

        if found.added is None:
            return replace(found, matrix=cut(found.matrix))
        down, up, weights = found.added
        return replace(found, matrix=cut(found.matrix), added=(down, cut(up), weights))

    def whole(self, path: str) -> Any:
        return self._tensor(path)

    @property
    def _given(self) -> dict[str, Any]:
        return self.lora.merging.bank.experts

    def _tensor(self, path: str, index: Array | None = None) -> Any:
        if path in self._given:
            return self.given.tensor(path, index)
        found = self._adapted(path, index)
        if found.matrix.ndim == 2:
            return found
        return (found.total * widen(found.matrix)).astype(self.given.merged.dtype)

    def _adapted(self, path: str, index: Array | None = None) -> WithFactors:
        """A tensor, which may be a vector, to which nothing is added."""
        of_model, of_experts = self.given.merged.coefficients(path, index, self.lora.count)
        total = jnp.asarray(of_model, jnp.float32) if self.given.merged.based else of_experts.sum()
        array, factors = self.lora.model[path], self.lora.factors.get(path)
        if index is not None:
            array = lax.dynamic_index_in_dim(array, index, keepdims=False)
            factors = None if factors is None else factors.of_layer(index)
        if factors is None:
            return WithFactors(array, total)
        weights = of_experts[np.array(factors.owners)] * factors.scales
        return WithFactors(array, total, (factors.down, factors.up, weights))


def load_lora(
    table: Table, model: Source, experts: Sequence[LoraSource], place: Place
) -> tuple[dict[str, Array], dict[str, Factors], dict[str, tuple[Any, ...]]]:
    """Of `Lora` the model and the factors, and the tensors of all experts that one of them gives as a whole."""
    tensors, factors, given = {}, {}, {}
    for parameter in table:
        tensors[parameter.path] = stack(table, parameter, model, place)
        names = parameter.names(table.num_layers)
        if any(expert.replaces(name) for expert in experts for name in names):
            given[parameter.path] = tuple(stack(table, parameter, expert, place) for expert in experts)
        elif found := _factors(parameter, names, experts, place):
            factors[parameter.path] = found
    return tensors, factors, given


def _factors(
    parameter: Parameter, names: Sequence[str], experts: Sequence[LoraSource], place: Place
) -> Factors | None:
    read = [[expert.factors(name) for name in names] for expert in experts]
    ranks = [max((found[0].shape[0] for found in layers if found), default=0) for layers in read]
    if not any(ranks):
        return None
    dtypes = {array.dtype for layers in read for found in layers if found for array in found[:2]}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)
    out, into = parameter.shape
    down, up = np.zeros((len(names), sum(ranks), into), dtype), np.zeros((len(names), out, sum(ranks)), dtype)
    scales = np.zeros((len(names), sum(ranks)), np.float32)
    for layers, first in zip(read, np.cumsum([0, *ranks[:-1]]), strict=True):
        for layer, found in enumerate(layers):
            if found:
                own = slice(first, first + found[0].shape[0])
                down[layer, own], up[layer][:, own], scales[layer, own] = found

    def placed(array: np.ndarray) -> Array:
        held: Array = place(storable(array if parameter.stacked else array[0]))
        return held

    owners = tuple(np.repeat(np.arange(len(experts)), ranks).tolist())
    return Factors(placed(down), placed(up), placed(scales), owners)
