"""Merges over one bank: of the searched operator, and of the untuned merges that it has to beat."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.table import Table
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.hf import load_params
from jaxmerge.models.weights import Params
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import operator
from jaxmerge.population.bank import Bank, load_bank, prepare
from jaxmerge.population.merged import Members, Merging
from jaxmerge.population.programs import Shape, merged_parameters
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.mesh import on_row, own_row
from jaxmerge.runtime.placement import Placement
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.config import BASE
from jaxmerge.search.engines.sources import Models
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import Values


class Finite:
    """A checkpoint whose tensors are checked as they are read."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def read(self, name: str) -> np.ndarray:
        array = self.checkpoint.read(name)
        require_finite(f"{self.checkpoint.info(name).file}: tensor '{name}'", array)
        return array


def stored(checkpoint: Checkpoint, config: DecoderConfig, table: Table, dtype: np.dtype, mesh: Mesh) -> Params:
    """A model as it is, on this process's row of the mesh."""
    place = Placement.of(config, own_row(mesh))
    return load_params(checkpoint, table, dtype, lambda parameter: place.sharding(table.axes(parameter)))


@dataclass(frozen=True)
class Assignment:
    """What a merge does to each group. values: one candidate's, as `ParameterSpace.decode` gives them."""

    operator: Operator
    values: Values
    groups: Groups


class Merger:
    """Merges of models of one layout. The bank is loaded when it is first needed."""

    def __init__(self, models: Models, dtype: np.dtype, mesh: Mesh, chunk: int, seed: int) -> None:
        """dtype: of what is merged. seed: of the masks."""
        self.models, self.dtype, self.mesh, self.chunk, self.seed = models, dtype, mesh, chunk, seed
        self._place = Placement.of(models.config, mesh)

    @cached_property
    def bank(self) -> Bank:
        base = self.models.base
        experts = tuple(map(Finite, self.models.experts.values()))
        return load_bank(self.models.table, None if base is None else Finite(base), experts, self._place)

    def merging(
        self,
        chosen: Operator,
        grid: Mapping[str, np.ndarray],
        groups: Groups,
        sources: tuple[str, ...] | None = None,
        dtype: np.dtype | None = None,
    ) -> Merging:
        """What all merges by an operator share. grid: see `population.bank.prepare`. sources: the models merged; None:
        all. dtype: of what is merged; None: the merger's own."""
        bank = self.bank if sources is None else self.bank.of([list(self.models.experts).index(n) for n in sources])
        statistics = prepare(chosen, self.models.table, bank, self._place, seed=self.seed, grid=grid)
        return Merging(bank, statistics, chosen, Members.of(groups.members), dtype or self.dtype)

    def programs(self, merging: Merging) -> Programs:
        return Programs(Shape(self.models.config, self.dtype, self.mesh, self.chunk), merging)

    def merged(self, merging: Merging, values: Values) -> Params:
        """One merge's weights, stacked over layers."""
        # Of several processes each merges for itself: what all sources have in common lies in each of them.
        return merged_parameters(on_row(merging, self.mesh), jax.tree.map(jnp.asarray, values))

    def assignment(self, merge: Untuned) -> Assignment:
        """One value of each parameter for the whole model."""
        assert merge.operator is not None
        chosen = operator(merge.operator)
        values: Values = {}
        for parameter in chosen.parameters:
            shape = (1, len(merge.sources)) if parameter.per_source else (1,)
            value = merge.parameters.get(parameter.name, parameter.default)
            assert value is not None, f"{merge.name} needs {parameter.name}"
            values[parameter.name] = np.full(shape, value, np.float32)
        return Assignment(chosen, values, Groups.of(self.models.table, Granularity(whole=True)))

    def untuned(self, merge: Untuned) -> Params:
        """An untuned merge's or a parent's weights."""
        if merge.operator is None:
            name = merge.sources[0]
            checkpoint = self.models.base if name == BASE else self.models.experts[name]
            assert checkpoint is not None
            return stored(checkpoint, self.models.config, self.models.table, self.dtype, self.mesh)
        own = self.assignment(merge)
        grid = {p.name: np.unique(own.values[p.name]).astype(np.float64) for p in own.operator.parameters if p.gridded}
        return self.merged(self.merging(own.operator, grid, own.groups, merge.sources), own.values)
