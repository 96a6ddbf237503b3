"""Candidates that are paths through the layers of a pool: the bank of all layers, and one path's weights.

A path is run as the ordinary model that it is exported as: its scales are folded into the layers, one at a time, when
the forward pass asks for them. Its length is traced, so that one program serves all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmerge.architectures.fold import part_of
from jaxmerge.architectures.table import LAYERS, Parameter, Table
from jaxmerge.models.weights import Params
from jaxmerge.operators.arithmetic import narrowed, rounded, storable, widen
from jaxmerge.population.bank import Place, Source
from jaxmerge.population.split import Held, block_of, is_split, own_layer_of, rows_of, whole_of
from jaxmerge.runtime.mesh import POP

Values = dict[str, Array]


class Layers(Protocol):
    """The layers of a pool one after another, and what is in no layer. Arrays are as `operators.arithmetic.storable`
    makes them; see `models.weights.Weights`."""

    @property
    def vocabulary_shards(self) -> int: ...

    @property
    def is_split(self) -> bool:
        """Whether devices have to ask for layers together, and so equally often."""
        ...

    @property
    def paths(self) -> tuple[str, ...]:
        """Names of what is in no layer."""
        ...

    def layer(self, place: Array) -> Params: ...

    def rows(self, path: str, ids: Array) -> Array: ...

    def block(self, path: str, start: Array, size: int) -> Array: ...

    def whole(self, path: str) -> Array: ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LayerBank:
    """Implements `Layers`. layers: `[M, ...]` by path, of all models of the pool. ends: what is in no layer, of the
    input model. Arrays are whole on every device, or split."""

    layers: dict[str, Held]
    ends: dict[str, Held]
    vocabulary_shards: int = field(default=1, metadata={"static": True})

    @classmethod
    def of(cls, model: dict[str, Held], vocabulary_shards: int) -> "LayerBank":
        """All of one model."""
        layers = {path: array for path, array in model.items() if path.startswith(LAYERS)}
        return cls(layers, {path: array for path, array in model.items() if path not in layers}, vocabulary_shards)

    @property
    def is_split(self) -> bool:
        return is_split(self)

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(self.ends)

    def layer(self, place: Array) -> Params:
        return {path.removeprefix(LAYERS): own_layer_of(array, place) for path, array in self.layers.items()}

    def rows(self, path: str, ids: Array) -> Array:
        return rows_of(self.ends[path], ids)

    def block(self, path: str, start: Array, size: int) -> Array:
        return block_of(self.ends[path], start, size, self.vocabulary_shards)

    def whole(self, path: str) -> Array:
        return whole_of(self.ends[path])



def load_layers(models: Sequence[tuple[Table, Source]], ends: tuple[Table, Source], place: Place) -> LayerBank:
    """Reads the pool into place, one stacked tensor at a time. Tensors keep the dtype of their checkpoint; where those
    of a path differ between models they are widened to float32, which changes no value."""
    table, source = ends
    stacked = [parameter for parameter in table if parameter.stacked]
    others = [parameter for parameter in table if not parameter.stacked]
    return LayerBank(
        {p.path: place(storable(_concatenated(models, p)), table.axes(p)) for p in stacked},
        {p.path: place(storable(np.ascontiguousarray(source.read(p.hf))), p.axes) for p in others},
        place.vocabulary_shards,
    )


def _concatenated(models: Sequence[tuple[Table, Source]], parameter: Parameter) -> np.ndarray:
    names = [(source, name) for table, source in models for name in table[parameter.path].names(table.num_layers)]
    whole = np.empty((0,), np.float32)
    for index, (source, name) in enumerate(names):
        tensor = source.read(name)
        if index == 0:
            whole = np.empty((len(names), *tensor.shape), tensor.dtype)
        elif tensor.dtype != whole.dtype:
            whole = whole.astype(np.float32)
        whole[index] = tensor
    return whole


def gathered(bank: Layers, places: Array) -> LayerBank:
    """The layers at these places, in their order, whole on the device that asks for them."""
    layers = lax.map(bank.layer, places)
    ends: dict[str, Held] = {path: bank.whole(path) for path in bank.paths}
    return LayerBank({LAYERS + path: array for path, array in layers.items()}, ends)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Routing:
    """What all candidates share; implements `programs.Population`. dtype: see `Routed`."""

    bank: Layers
    dtype: Any = field(metadata={"static": True})

    def candidate(self, values: Values) -> "Routed":
        """values: of one candidate, as `spaces.dataflow` decodes them."""
        layers, factors, depth = values["layers"], values["factors"], values["depth"]
        final = factors[depth - 1]
        if self.bank.is_split:
            # All devices take as many hops as the longest path of theirs. A hop with factor 0 adds nothing to the
            # stream, exactly: norms and outputs are zero.
            factors = jnp.where(jnp.arange(factors.shape[0]) < depth, factors, 0.0)
            depth = lax.pmax(depth, POP)
        return Routed(self.bank, layers, layers, factors, final, depth, self.dtype)

    def resident(self, values: Values) -> "Routed":
        if self.bank.is_split:
            layers, factors, depth = values["layers"], values["factors"], values["depth"]
            hops = jnp.arange(layers.shape[0], dtype=jnp.int32)
            bank = gathered(self.bank, layers)
            return Routed(bank, hops, layers, factors, factors[depth - 1], depth, self.dtype)
        # The layers lie in memory already; a copy of each hop would take a whole model's memory a candidate.
        return self.candidate(values)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Routed:
    """One path over a bank: implements `models.weights.Weights`.

    layers: places in the bank, int32 `[hops]`. windows: places among the config's windows, likewise. factors: float32
    `[hops]`, see `spaces.dataflow.Route.factors`; final: that of the path's last hop. depth: how many of the hops are
    taken, int32 or a plain integer. dtype: of the forward pass, to which scaled tensors are rounded once.
    """

    bank: Layers
    layers: Array
    windows: Array
    factors: Array
    final: Array
    depth: Array | int
    dtype: Any = field(metadata={"static": True})

    @property
    def vocabulary_shards(self) -> int:
        return self.bank.vocabulary_shards

    def place(self, index: Array) -> Array:
        return self.windows[index]

    def layer(self, index: Array) -> Params:
        factor = self.factors[index]
        stored = self.bank.layer(self.layers[index])
        return {path: self._scaled(LAYERS + path, array, factor) for path, array in stored.items()}

    def rows(self, path: str, ids: Array) -> Array:
        return narrowed(self.bank.rows(path, ids), self.dtype)

    def block(self, path: str, start: Array, size: int) -> Array:
        return narrowed(self.bank.block(path, start, size), self.dtype)

    def whole(self, path: str) -> Array:
        return self._scaled(path, self.bank.whole(path), self.final)

    def _scaled(self, path: str, stored: Array, factor: Array) -> Array:
        part = part_of(path)
        if part is None:
            return narrowed(stored, self.dtype)
        scale = factor if part == "output" else jnp.sign(factor)
        return rounded(scale * widen(stored)).astype(self.dtype)
