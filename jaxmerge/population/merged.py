"""Weights that are merged at the moment the forward pass asks for them.

One merged layer is alive at a time. Each tensor is merged in float32 by the operator that also writes the exported
model, and rounded once to the dtype of the forward pass, so what is scored is what is exported.

The form matters: the bank is closed over by the layer loop, each source is cut by the dynamic layer index first, and
the operator is applied tensor by tensor, so that XLA makes one fused loop of each merge (benchmarks/candidate.py
measures it; other forms took 1.4x to 3.7x a plain forward pass).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmerge.architectures.table import LAYERS
from jaxmerge.models.weights import Params, Stored
from jaxmerge.operators.interface import Coefficients, Operator, Tile
from jaxmerge.population.bank import Bank, Statistics
from jaxmerge.population.compressed import CompressedBank
from jaxmerge.population.split import Held, Split, block_of, layer_of, own_layer_of, rows_of, whole_of

Values = dict[str, Array]


@dataclass(frozen=True)
class Members:
    """The group of every tensor, hashable so that it can be a static part of a program."""

    rows: tuple[tuple[str, tuple[int, ...] | int], ...]

    @classmethod
    def of(cls, members: dict[str, np.ndarray]) -> "Members":
        return cls(tuple((path, tuple(m.tolist()) if m.ndim else int(m)) for path, m in members.items()))

    def __getitem__(self, path: str) -> tuple[int, ...] | int:
        return dict(self.rows)[path]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Merging:
    """What all candidates of a parameter space share; implements `programs.Population`. dtype: see `Merged`."""

    bank: Bank | CompressedBank
    statistics: Statistics
    operator: Operator = field(metadata={"static": True})
    members: Members = field(metadata={"static": True})
    dtype: Any = field(metadata={"static": True})

    def candidate(self, values: Values) -> "Merged":
        return Merged(self.bank, self.statistics, values, self.operator, self.members, self.dtype)

    def resident(self, values: Values) -> Stored:
        # With one token a step, merging in every step would cost more than it spares.
        return Stored(materialised(self.candidate(values)), self.bank.vocabulary_shards)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Merged:
    """One candidate over a bank: implements `models.weights.Weights`.

    values: the operator's parameters of every group, float32 `[G, K]` or `[G]`. dtype: of what is merged.
    """

    bank: Bank | CompressedBank
    statistics: Statistics
    values: Values
    operator: Operator = field(metadata={"static": True})
    members: Members = field(metadata={"static": True})
    dtype: Any = field(metadata={"static": True})

    @property
    def depth(self) -> int:
        return next(self.bank.shape(path)[0] for path in self.bank.experts if path.startswith(LAYERS))

    @property
    def vocabulary_shards(self) -> int:
        return self.bank.vocabulary_shards

    def place(self, index: Array) -> Array:
        return index

    def layer(self, index: Array) -> Params:
        stacked = [path for path in self.bank.experts if path.startswith(LAYERS)]
        return {path.removeprefix(LAYERS): self.tensor(path, index) for path in stacked}

    def tensor(self, path: str, index: Array) -> Array:
        """One layer's tensor of a path that is stacked."""

        def at(array: Held) -> Array:
            return layer_of(array, index)

        return self._merge(path, at, at, self._group(path, index))

    def piece(self, index: Array) -> "Merged":
        """With the sources of one layer alone, for `held`. Each device may ask for its own; see `own_layer_of`."""

        def own(array: Held) -> Array:
            return own_layer_of(array, index)

        assert isinstance(self.bank, Bank), "a compressed bank is cut as it is merged"
        stacked = [path for path in self.bank.experts if path.startswith(LAYERS)]
        base: dict[str, Held] | None = None
        if self.bank.base is not None:
            base = {path: own(self.bank.base[path]) for path in stacked}
        bank = Bank(base, {path: tuple(map(own, self.bank.experts[path])) for path in stacked})
        stats, fields = (
            {path: jax.tree.map(own, held[path], is_leaf=lambda leaf: isinstance(leaf, Split)) for path in stacked}
            for held in (self.statistics.stats, self.statistics.fields)
        )
        return replace(self, bank=bank, statistics=Statistics(stats, fields))

    def rows(self, path: str, ids: Array) -> Array:
        if self.operator.scope == "tensor":
            return self.whole(path)[ids]
        return self._merge(path, lambda array: rows_of(array, ids), whole_of, self._group(path), ids.astype(jnp.uint32))

    def block(self, path: str, start: Array, size: int) -> Array:
        count, shards = self.bank.shape(path)[0], self.vocabulary_shards
        first = jnp.clip(start, 0, count // shards - size)

        def cut(array: Held) -> Array:
            return block_of(array, first, size, shards)

        if self.operator.scope == "tensor":
            return cut(self.whole(path))
        rows = first.astype(jnp.uint32) + jnp.arange(size, dtype=jnp.uint32)
        if shards > 1:
            rows = rows + count // shards * jnp.arange(shards, dtype=jnp.uint32)[:, None]
        return self._merge(path, cut, whole_of, self._group(path), rows)

    def whole(self, path: str) -> Array:
        return self._merge(path, whole_of, whole_of, self._group(path))

    def held(self, path: str, index: Array | None = None, rows: Array | None = None) -> Array:
        """Merges all that the bank holds of a tensor, where it holds a part: one layer's, or some rows.

        index: the layer that it is of. rows: uint32, the tensor's row of each row that is held (default: all)."""
        return self._merge(path, whole_of, whole_of, self._group(path, index), rows)

    @property
    def based(self) -> bool:
        """Whether sources are relative to the base."""
        return self.bank.base is not None and self.operator.takes_base

    def coefficients(self, path: str, index: Array | None = None, count: int | None = None) -> Coefficients:
        """What is taken of the base and of each source, for an operator that has `coefficients`. index: the layer.
        count: how many sources there are, where the bank does not have the tensor."""
        assert self.operator.coefficients is not None
        group = self._group(path, index)
        stats = self.statistics.stats[path]
        stats = {name: whole_of(array) if index is None else layer_of(array, index) for name, array in stats.items()}
        params = {name: array[group] for name, array in self.values.items()}
        return self.operator.coefficients(stats, params, count or len(self.bank.experts[path]), self.based)

    def _group(self, path: str, index: Array | None = None) -> Array | int:
        group = self.members[path]
        if isinstance(group, int):
            return group
        return jnp.asarray(group, jnp.int32)[index]

    def _merge(
        self,
        path: str,
        cut: Callable[[Held], Array],
        cut_stats: Callable[[Held], Array],
        group: Array | int,
        rows: Array | None = None,
    ) -> Array:
        """Merges the part of a tensor that `cut` takes. rows: the tensor's row of each of its rows (default: all)."""
        base, sources = self.bank.widened(path, cut)
        if rows is None:
            rows = row_numbers(sources[0].shape)
        tile = Tile(
            base=base,
            sources=sources,
            rows=rows,
            fields={
                name: tuple(cut(array) for array in arrays)
                for name, arrays in self.statistics.fields[path].items()
            },
        )
        stats = {name: cut_stats(array) for name, array in self.statistics.stats[path].items()}
        params = {name: array[group] for name, array in self.values.items()}
        return self.operator.apply(tile, stats, params).astype(self.dtype)


def row_numbers(shape: tuple[int, ...]) -> Array:
    """uint32 `[*shape[:-1]]`: the flattened index of each row of a whole tensor."""
    leading = shape[:-1]
    return jnp.arange(int(np.prod(leading)), dtype=jnp.uint32).reshape(leading)


def materialised(weights: Merged) -> Params:
    """The candidate's whole model, `{path: array}` stacked over layers, merged one layer at a time."""
    paths = list(weights.bank.experts)
    params = {path: weights.whole(path) for path in paths if not path.startswith(LAYERS)}
    stacked = [path for path in paths if path.startswith(LAYERS)]
    layers = lax.map(weights.layer, jnp.arange(weights.depth))
    return params | {path: layers[path.removeprefix(LAYERS)] for path in stacked}
