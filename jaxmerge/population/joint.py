"""Candidates that are paths through a pool to which a merge belongs: the merge's layers are made when the path comes to
them, and scaled and rounded once like all others."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from jax import Array, lax

from jaxmerge.architectures.table import LAYERS
from jaxmerge.models.weights import Params, Stored
from jaxmerge.operators.arithmetic import widen
from jaxmerge.population.bank import Bank
from jaxmerge.population.gated import Gating
from jaxmerge.population.merged import Merged, Merging, Values
from jaxmerge.population.routed import LayerBank, Routed, Routing
from jaxmerge.population.split import is_split, whole_of

# What the merge's values are called among those of a candidate.
PREFIX = "merged "


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Models:
    """Models of one layout as one row of layers, behind them their merge: implements `routed.Layers`. ends: the model
    that gives what is in no layer. Their arrays are as `operators.arithmetic.storable` makes them, a layer's come
    widened to float32."""

    models: tuple[LayerBank, ...]
    merge: Merged | Stored
    ends: int = field(metadata={"static": True})

    @property
    def vocabulary_shards(self) -> int:
        return self._input.vocabulary_shards

    @property
    def is_split(self) -> bool:
        return is_split(self.models)

    @property
    def paths(self) -> tuple[str, ...]:
        return self.models[0].paths

    def layer(self, place: Array) -> Params:
        index, model = place % self.merge.depth, place // self.merge.depth
        if isinstance(self.merge, Merged) and self.is_split:
            # Devices that ask for layers of different models send shares of all sources' all the same.
            piece = self.merge.piece(index)
            assert isinstance(piece.bank, Bank)
            sources = [partial(_of_source, piece.bank, k) for k in range(piece.bank.count)]
            return lax.switch(model, [*sources, lambda: _merged(piece, index)])
        # Only the model whose turn it is is asked: nothing is merged for the layers of others.
        return lax.switch(model, [partial(_wide, each) for each in (*self.models, self.merge)], index)

    def rows(self, path: str, ids: Array) -> Array:
        return self._input.rows(path, ids)

    def block(self, path: str, start: Array, size: int) -> Array:
        return self._input.block(path, start, size)

    def whole(self, path: str) -> Array:
        return self._input.whole(path)

    @property
    def _input(self) -> LayerBank | Merged | Stored:
        return (*self.models, self.merge)[self.ends]


def _wide(model: LayerBank | Merged | Stored, index: Array) -> Params:
    return {path: widen(array) for path, array in model.layer(index).items()}


def _of_source(bank: Bank, place: int) -> Params:
    return {path.removeprefix(LAYERS): widen(whole_of(arrays[place])) for path, arrays in bank.experts.items()}


def _merged(piece: Merged, index: Array) -> Params:
    return {path.removeprefix(LAYERS): widen(piece.held(path, index)) for path in piece.bank.experts}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Joint:
    """What all candidates of a joint space share; implements `programs.Population`.

    merging: in float32, over the pool's models, behind which the merge comes. ends: see `Models`. gates: the layers of
    all hops where each has a gate (see `gated.Gating`), None for paths. dtype: of the forward pass.
    """

    merging: Merging
    ends: int = field(metadata={"static": True})
    gates: tuple[int, ...] | None = field(metadata={"static": True})
    dtype: Any = field(metadata={"static": True})

    def candidate(self, values: Values) -> Routed:
        """values: the merge's, each name behind `PREFIX`, and those of a path or of gates."""
        return self._over(self.merging.candidate(_of_merge(values))).candidate(values)

    def resident(self, values: Values) -> Routed:
        of_merge = _of_merge(values)
        if is_split(self.merging.bank):
            return self._over(self.merging.candidate(of_merge)).resident(values)
        return self._over(self.merging.resident(of_merge)).candidate(values)

    def _over(self, merge: Merged | Stored) -> Routing | Gating:
        bank = self.merging.bank
        assert isinstance(bank, Bank)
        sources = [{path: arrays[k] for path, arrays in bank.experts.items()} for k in range(bank.count)]
        models = Models(tuple(LayerBank.of(source, bank.vocabulary_shards) for source in sources), merge, self.ends)
        return Routing(models, self.dtype) if self.gates is None else Gating(models, self.gates, self.dtype)


def _of_merge(values: Values) -> Values:
    return {name.removeprefix(PREFIX): array for name, array in values.items() if name.startswith(PREFIX)}
