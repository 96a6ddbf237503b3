"""The bank on the host: the sources as their files hold them, and the pieces of it that go to the devices.

Nothing is copied and nothing is stacked: a tensor is a view, mapped from its file, in the dtype of its checkpoint.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxmerge.architectures.table import Parameter, Table
from jaxmerge.operators.arithmetic import storable
from jaxmerge.operators.interface import Operator, Sources
from jaxmerge.population.bank import Bank, Statistics, prepare
from jaxmerge.population.merged import Members, Merging

# A tensor of a checkpoint by its name, not copied where that can be.
View = Callable[[str], np.ndarray]
Rows = slice | np.ndarray | None


@dataclass(frozen=True)
class MappedBank:
    """Implements `bank.Readable`. base, experts: by path the tensors of all layers, or the one of what is in none."""

    table: Table
    base: dict[str, list[np.ndarray]] | None
    experts: tuple[dict[str, list[np.ndarray]], ...]

    @classmethod
    def of_views(cls, table: Table, base: View | None, experts: Sequence[View]) -> "MappedBank":
        def views(view: View) -> dict[str, list[np.ndarray]]:
            return {p.path: [view(name) for name in p.names(table.num_layers)] for p in table}

        return cls(table, None if base is None else views(base), tuple(map(views, experts)))

    @property
    def count(self) -> int:
        return len(self.experts)

    @property
    def base_alone(self) -> "MappedBank":
        """The base as the only expert."""
        assert self.base is not None
        return MappedBank(self.table, None, (self.base,))

    def of(self, places: Sequence[int]) -> "MappedBank":
        """Some of the experts, by place."""
        return MappedBank(self.table, self.base, tuple(self.experts[k] for k in places))

    def sources(self, parameter: Parameter, layer: int) -> Sources:
        return Sources(
            None if self.base is None else self.base[parameter.path][layer],
            tuple(expert[parameter.path][layer] for expert in self.experts),
        )

    def piece(self, paths: Sequence[str], layer: int, rows: Rows) -> Bank:
        """Arrays of the host without a layer axis. rows: only these; None: all."""

        def cut(source: dict[str, list[np.ndarray]], path: str) -> Any:
            array = source[path][layer]
            return storable(np.asarray(array if rows is None else array[rows]))

        return Bank(
            None if self.base is None else {path: cut(self.base, path) for path in paths},
            {path: tuple(cut(expert, path) for expert in self.experts) for path in paths},
        )


@dataclass(frozen=True)
class OnHost:
    """Implements `bank.Place`."""

    vocabulary_shards: int = 1

    def __call__(self, array: np.ndarray, axes: tuple[str, ...] = ()) -> np.ndarray:
        return np.asarray(array)


@dataclass(frozen=True)
class MappedMerging:
    """What `merged.Merging` is, over a bank on the host. statistics: NumPy arrays."""

    bank: MappedBank
    statistics: Statistics
    operator: Operator
    members: Members
    dtype: Any

    @classmethod
    def prepared(
        cls,
        bank: MappedBank,
        operator: Operator,
        members: Members,
        dtype: Any,
        *,
        seed: int,
        grid: Mapping[str, np.ndarray],
    ) -> "MappedMerging":
        """See `bank.prepare`."""
        statistics = prepare(operator, bank.table, bank, OnHost(), seed=seed, grid=grid)
        return cls(bank, statistics, operator, members, dtype)

    @property
    def cuts_rows(self) -> bool:
        """Whether some rows of a matrix can be merged without the others."""
        return self.operator.scope != "tensor"

    def layer(self, layer: int) -> Merging:
        """All tensors of one layer, on the host."""
        return self._piece([p.path for p in self.bank.table if p.stacked], layer, None)

    def part(self, path: str, rows: Rows = None) -> Merging:
        """A tensor that is in no layer, or some rows of it, on the host."""
        return self._piece([path], None, rows)

    def _piece(self, paths: Sequence[str], layer: int | None, rows: Rows) -> Merging:
        def of_layer(array: Any) -> Any:
            return array if layer is None else array[layer]

        def cut(array: Any) -> Any:
            held = of_layer(array)
            return held if rows is None else held[rows]

        statistics = Statistics(
            {path: jax.tree.map(of_layer, self.statistics.stats[path]) for path in paths},
            {path: jax.tree.map(cut, self.statistics.fields[path]) for path in paths},
        )
        bank = self.bank.piece(paths, layer or 0, rows)
        return Merging(bank, statistics, self.operator, self.members, self.dtype)
