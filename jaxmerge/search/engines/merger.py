"""Merges over one bank: of the searched operator, and of the untuned merges that it has to beat."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jax.sharding import Mesh

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.table import Table
from jaxmerge.converters.adapted import Adapted
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.hf import load_params
from jaxmerge.models.weights import Params
from jaxmerge.objectives.interface import Runner
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import operator
from jaxmerge.population.bank import Bank, load_bank, prepare
from jaxmerge.population.batched import Batching
from jaxmerge.population.compressed import Compression, load_compressed
from jaxmerge.population.from_files import FileMerging, FilePrograms, Files
from jaxmerge.population.lora import Lora, load_lora
from jaxmerge.population.mapped import MappedBank, MappedMerging
from jaxmerge.population.merged import Members, Merging
from jaxmerge.population.programs import Population, Shape
from jaxmerge.population.runner import Programs
from jaxmerge.population.split import Splitting
from jaxmerge.population.streamed import Streamed
from jaxmerge.runtime.mesh import own_row, spans_processes
from jaxmerge.runtime.placement import Placement
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.config import BASE
from jaxmerge.search.engines.sources import Models
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import Values

AnyMerging = Merging | MappedMerging | FileMerging
AnyPrograms = Programs | FilePrograms


class Finite:
    """A checkpoint whose tensors are checked as they are read."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    def read(self, name: str) -> np.ndarray:
        array = self.checkpoint.read(name)
        require_finite(f"{self.checkpoint.info(name).file}: tensor '{name}'", array)
        return array

    def view(self, name: str) -> np.ndarray:
        array = self.checkpoint.view(name)
        require_finite(f"{self.checkpoint.info(name).file}: tensor '{name}'", array)
        return array


class FiniteLora(Finite):
    """The same of a model with a LoRA."""

    checkpoint: Adapted

    def factors(self, name: str) -> tuple[np.ndarray, np.ndarray, float] | None:
        return self.checkpoint.factors(name)

    def replaces(self, name: str) -> bool:
        return self.checkpoint.replaces(name)


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

    def __init__(
        self,
        models: Models,
        dtype: np.dtype,
        mesh: Mesh,
        seed: int,
        home: str = "device",
        waiting: int = 0,
        cache: np.dtype | None = None,
    ) -> None:
        """dtype: of what is merged. seed: of the masks. home: see `needs.HOMES`, or `files` where no sources are held,
        and each merge is made from them. waiting: see `streamed.Streamed`. cache: see `programs.Shape`."""
        self.models, self.dtype, self.mesh, self.seed = models, dtype, mesh, seed
        self.home, self.waiting, self.cache = home, waiting, cache
        self._place = Placement.of(models.config, mesh)
        self._place_source = Splitting(mesh) if home == "sharded" else self._place

    @cached_property
    def bank(self) -> Bank:
        """On the devices, whole on each or split."""
        base = self.models.base
        experts = tuple(map(Finite, self.models.experts.values()))
        return load_bank(self.models.table, None if base is None else Finite(base), experts, self._place_source)

    @cached_property
    def mapped(self) -> MappedBank:
        """On the host."""
        base = self.models.base
        experts = [Finite(expert).view for expert in self.models.experts.values()]
        return MappedBank.of_views(self.models.table, None if base is None else Finite(base).view, experts)

    def merging(
        self,
        chosen: Operator,
        grid: Mapping[str, np.ndarray],
        groups: Groups,
        sources: tuple[str, ...] | None = None,
        dtype: np.dtype | None = None,
    ) -> AnyMerging:
        """What all merges by an operator share. grid: see `population.bank.prepare`. sources: the models merged; None:
        all. dtype: of what is merged; None: the merger's own."""
        places = range(len(self.models.experts)) if sources is None else self._places(sources)
        members, dtype = Members.of(groups.members), dtype or self.dtype
        if self.home == "files":
            return FileMerging(self.files(chosen, places), chosen, members, dtype, self.seed)
        if self.home == "host":
            bank = self.mapped.of(places)
            return MappedMerging.prepared(bank, chosen, members, dtype, seed=self.seed, grid=grid)
        held = self.bank.of(places)
        # A bank that is not whole in one process is looked at in its files.
        apart = self.home == "sharded" or spans_processes(self.mesh)
        looked_at = self.mapped.of(places) if apart else held
        statistics = prepare(
            chosen, self.models.table, looked_at, self._place, seed=self.seed, grid=grid, place_field=self._place_source
        )
        return Merging(held, statistics, chosen, members, dtype)

    def files(self, chosen: Operator, places: Iterable[int] | None = None) -> Files:
        """The sources of merges by an operator as they lie in their files. places: of the experts; None: all."""
        experts = list(self.models.experts.values())
        base = self.models.base if chosen.takes_base else None
        read = tuple(Finite(experts[k]) for k in (range(len(experts)) if places is None else places))
        return Files(self.models.table, None if base is None else Finite(base), read)

    def _places(self, sources: tuple[str, ...]) -> list[int]:
        return [list(self.models.experts).index(name) for name in sources]

    def programs(self, merging: AnyMerging, chunk: int = 1) -> AnyPrograms:
        """What scores candidates, `chunk` at once on a device."""
        shape = Shape(self.models.config, self.dtype, self.mesh, chunk, self.cache)
        if isinstance(merging, FileMerging):
            return FilePrograms(shape, merging)
        return Programs(shape, merging) if isinstance(merging, Merging) else Streamed(shape, merging, self.waiting)

    def batching(self, merging: AnyMerging, lora: Checkpoint | None, grid: Mapping[str, np.ndarray]) -> Population:
        """The same candidates for a batch that shares what it reads. lora: the model that all experts are LoRAs on."""
        if isinstance(merging, Merging):
            return Batching(merging)
        assert isinstance(merging, FileMerging) and lora is not None
        experts = [FiniteLora(expert) for expert in self.models.experts.values() if isinstance(expert, Adapted)]
        tensors, factors, given = load_lora(self.models.table, Finite(lora), experts, self._place)
        files, chosen = merging.files, merging.operator
        statistics = prepare(chosen, self.models.table, files, self._place, seed=self.seed, grid=grid)
        bank = Bank({path: tensors[path] for path in given} if files.base is not None else None, given)
        held = Merging(bank, statistics, chosen, merging.members, self.dtype)
        return Lora(tensors, factors, held, len(experts))

    def compressed(self, merging: AnyMerging, kind: Compression, grid: Mapping[str, np.ndarray]) -> Merging:
        """The same candidates over a compressed bank; what is prepared is that of the sources as they are."""
        assert isinstance(merging, FileMerging) and merging.files.base is not None
        files, chosen = merging.files, merging.operator
        bank = load_compressed(files.table, merging.files.base, files.experts, kind, self._place)
        statistics = prepare(chosen, files.table, files, self._place, seed=self.seed, grid=grid)
        return Merging(bank, statistics, chosen, merging.members, self.dtype)

    def merged(self, merging: AnyMerging, values: Values) -> Params:
        """One merge's weights, stacked over layers."""
        return self.programs(merging).model(values)

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
        return self.merged(*self._untuned_merging(merge))

    def untuned_candidate(self, merge: Untuned) -> Runner:
        """The same as a candidate of its own population, whose model is nowhere whole where the bank is on the host."""
        merging, values = self._parent(merge.sources[0]) if merge.operator is None else self._untuned_merging(merge)
        return self.programs(merging).candidates({name: array[None] for name, array in values.items()})

    def _untuned_merging(self, merge: Untuned) -> tuple[AnyMerging, Values]:
        own = self.assignment(merge)
        grid = {p.name: np.unique(own.values[p.name]).astype(np.float64) for p in own.operator.parameters if p.gridded}
        return self.merging(own.operator, grid, own.groups, merge.sources), own.values

    def _parent(self, name: str) -> tuple[MappedMerging, Values]:
        own = self.assignment(Untuned(name, "passthrough", (name,)))
        bank = self.mapped.base_alone if name == BASE else self.mapped.of(self._places((name,)))
        members = Members.of(own.groups.members)
        return MappedMerging.prepared(bank, own.operator, members, self.dtype, seed=self.seed, grid={}), own.values
