"""The bank: all sources of a search, in memory once, read by every candidate.

Sources keep the dtype of their checkpoint. Each is an array of its own, `[L, ...]` where it is stacked, because slicing
one array of all sources compiles to scalar code on a CPU (measured in benchmarks/).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import jax
import numpy as np
from jax import Array

from jaxmerge.architectures.table import Parameter, Table
from jaxmerge.operators.arithmetic import storable, stored, widen
from jaxmerge.operators.interface import Operator, Request, Sources, nothing
from jaxmerge.population.split import Held
from jaxmerge.runtime.mesh import on_host


class Source(Protocol):
    """A checkpoint that gives its tensors by name."""

    def read(self, name: str) -> np.ndarray: ...


class Place(Protocol):
    """Puts a host's array where it is to lie. axes: its logical axes, none where every device needs the whole.
    vocabulary_shards: see `models.weights.Weights`."""

    @property
    def vocabulary_shards(self) -> int: ...

    def __call__(self, array: np.ndarray, axes: tuple[str, ...] = ()) -> Any: ...


class Readable(Protocol):
    """A bank whose tensors can be looked at on the host. count: of the experts."""

    @property
    def count(self) -> int: ...

    def sources(self, parameter: Parameter, layer: int) -> Sources:
        """A tensor of the table as all sources have it."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bank:
    """base: path -> array, None where the operator has no base. experts: path -> one array an expert, in order.
    Arrays are as `operators.arithmetic.storable` makes them, each whole for every candidate or split.
    vocabulary_shards: see `models.weights.Weights`."""

    base: dict[str, Held] | None
    experts: dict[str, tuple[Held, ...]]
    vocabulary_shards: int = field(default=1, metadata={"static": True})

    def of(self, places: Sequence[int]) -> "Bank":
        """Some of the experts, by place; nothing is copied."""
        chosen = {path: tuple(arrays[k] for k in places) for path, arrays in self.experts.items()}
        return replace(self, experts=chosen)

    @property
    def nbytes(self) -> int:
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self))

    @property
    def count(self) -> int:
        return len(next(iter(self.experts.values())))

    def shape(self, path: str) -> tuple[int, ...]:
        """Of a source's array, or of the share of one that is split."""
        return self.experts[path][0].shape

    def widened(self, path: str, cut: Callable[[Held], Array]) -> tuple[Array | None, tuple[Array, ...]]:
        """What `cut` takes of the base and of each expert, in float32."""
        base = None if self.base is None else widen(cut(self.base[path]))
        return base, tuple(widen(cut(expert)) for expert in self.experts[path])

    def sources(self, parameter: Parameter, layer: int) -> Sources:
        """See `Readable`."""
        return Sources(
            None if self.base is None else _tensor(self.base[parameter.path], layer, parameter),
            tuple(_tensor(expert, layer, parameter) for expert in self.experts[parameter.path]),
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Statistics:
    """What an operator's `prepare` gave: path -> name -> array with a leading layer axis where the path is stacked.
    fields: the same for what it gave for every element, a tuple of arrays."""

    stats: dict[str, dict[str, Array]]
    fields: dict[str, dict[str, tuple[Held, ...]]]


def load_bank(table: Table, base: Source | None, experts: tuple[Source, ...], place: Place) -> Bank:
    """Reads every source into place, one stacked tensor of one source at a time."""
    stacks: dict[str, tuple[Held, ...]] = {}
    bases: dict[str, Held] = {}
    for parameter in table:
        stacks[parameter.path] = tuple(stack(table, parameter, source, place) for source in experts)
        if base is not None:
            bases[parameter.path] = stack(table, parameter, base, place)
    return Bank(bases if base is not None else None, stacks, place.vocabulary_shards)


def stack(table: Table, parameter: Parameter, source: Source, place: Place) -> Any:
    """A tensor of all layers as a source has it, in place."""
    names = parameter.names(table.num_layers)
    first = source.read(names[0])
    if not parameter.stacked:
        return place(storable(np.ascontiguousarray(first)), parameter.axes)
    whole = np.empty((table.num_layers, *first.shape), first.dtype)
    whole[0] = first
    for layer, name in enumerate(names[1:], start=1):
        whole[layer] = source.read(name)
    return place(storable(whole), table.axes(parameter))


def prepare(
    operator: Operator,
    table: Table,
    bank: Readable,
    place: Place,
    *,
    seed: int,
    grid: Mapping[str, np.ndarray],
    place_field: Place | None = None,
) -> Statistics:
    """Runs the operator's `prepare` on every tensor of the bank, once for a search.

    grid: for each gridded parameter the values that candidates will ask for, ascending float64. place_field: for what
    is as large as the sources; None: `place`.
    """
    if operator.prepare is nothing:
        return Statistics({p.path: {} for p in table}, {p.path: {} for p in table})
    grids = {name: (np.asarray(values, np.float64),) * bank.count for name, values in grid.items()}
    hold = place_field or place
    stats: dict[str, dict[str, Array]] = {}
    fields: dict[str, dict[str, tuple[Held, ...]]] = {}
    for parameter in table:
        prepared = [
            operator.prepare(bank.sources(parameter, layer), Request(name, seed, grids))
            for layer, name in enumerate(parameter.names(table.num_layers))
        ]
        join, axes = np.stack if parameter.stacked else _only, table.axes(parameter)
        stats[parameter.path] = {key: place(join([p.stats[key] for p in prepared])) for key in prepared[0].stats}
        fields[parameter.path] = {
            key: tuple(hold(join([p.fields[key][k] for p in prepared]), axes) for k in range(len(first)))
            for key, first in prepared[0].fields.items()
        }
    return Statistics(stats, fields)


def _tensor(array: Held, layer: int, parameter: Parameter) -> np.ndarray:
    """One tensor of the bank on the host, in the dtype of its checkpoint."""
    assert isinstance(array, Array), "a split bank is looked at in its files"
    return stored(on_host(array, layer if parameter.stacked else None))


def _only(arrays: list[np.ndarray]) -> np.ndarray:
    return arrays[0]
