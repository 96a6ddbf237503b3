"""Candidates that are paths through a pool to which a merge belongs: the merge's layers are made when the path comes to
them, and scaled and rounded once like all others."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
from jax import Array, lax

from jaxmerge.models.weights import Params, Stored, Weights
from jaxmerge.operators.arithmetic import widen
from jaxmerge.population.gated import Gating
from jaxmerge.population.merged import Merging, Values
from jaxmerge.population.routed import Routed, Routing
from jaxmerge.population.split import whole_of

# What the merge's values are called among those of a candidate.
PREFIX = "merged "


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Models:
    """Models of one layout as one row of layers: implements `routed.Layers`. ends: the model that gives what is in no
    layer. Their arrays are as `operators.arithmetic.storable` makes them, a layer's come widened to float32."""

    models: tuple[Weights, ...]
    ends: int = field(metadata={"static": True})

    @property
    def vocabulary_shards(self) -> int:
        return self.models[self.ends].vocabulary_shards

    def layer(self, place: Array) -> Params:
        depth = self.models[0].depth
        # Only the model whose turn it is is asked: nothing is merged for the layers of others.
        return lax.switch(place // depth, [partial(_wide, model) for model in self.models], place % depth)

    def rows(self, path: str, ids: Array) -> Array:
        return self.models[self.ends].rows(path, ids)

    def block(self, path: str, start: Array, size: int) -> Array:
        return self.models[self.ends].block(path, start, size)

    def whole(self, path: str) -> Array:
        return self.models[self.ends].whole(path)


def _wide(model: Weights, index: Array) -> Params:
    return {path: widen(array) for path, array in model.layer(index).items()}


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
        return self._over(self.merging.candidate(_of_merge(values)), values)

    def resident(self, values: Values) -> Routed:
        return self._over(self.merging.resident(_of_merge(values)), values)

    def _over(self, merged: Weights, values: Values) -> Routed:
        bank = self.merging.bank
        stored = [
            Stored({path: whole_of(arrays[k]) for path, arrays in bank.experts.items()}, bank.vocabulary_shards)
            for k in range(bank.count)
        ]
        models = Models((*stored, merged), self.ends)
        flow = Routing(models, self.dtype) if self.gates is None else Gating(models, self.gates, self.dtype)
        return flow.candidate(values)


def _of_merge(values: Values) -> Values:
    return {name.removeprefix(PREFIX): array for name, array in values.items() if name.startswith(PREFIX)}
