"""The engine of a data-flow search: paths through the layers of a pool, scored as the ordinary models that they are
exported as."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.companions import TOKENIZER
from jaxmerge.converters.model import layout_of
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.merging.merge import merge
from jaxmerge.objectives.interface import Objective, Runner
from jaxmerge.objectives.loading import build as build_objectives
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import operator
from jaxmerge.population.gated import Gating
from jaxmerge.population.programs import Population, Shape
from jaxmerge.population.routed import Routing, load_layers
from jaxmerge.population.runner import Programs
from jaxmerge.population.split import Splitting
from jaxmerge.recipe.renaming import renamed
from jaxmerge.runtime.mesh import MODEL
from jaxmerge.search.baselines import Untuned, parents, untuned
from jaxmerge.search.config import MERGED, EvolveConfig
from jaxmerge.search.engine import Candidate
from jaxmerge.search.engines.following import Relaxation
from jaxmerge.search.engines.home import Home
from jaxmerge.search.engines.merger import Finite, Merger, stored
from jaxmerge.search.engines.needs import Needs
from jaxmerge.search.engines.plan import bank_bytes, layers_and_time
from jaxmerge.search.engines.pool import PooledModels, open_pool
from jaxmerge.search.engines.scoring import ScoringEngine
from jaxmerge.search.fingerprint import hash_of_tokenizer
from jaxmerge.spaces.dataflow import DataflowSpace, Route, Values, start_gene
from jaxmerge.spaces.dataflow_recipe import described, recipe
from jaxmerge.tokens.tokenizer import Tokenizer


class DataflowEngine(ScoringEngine):
    """Implements `search.engine.Engine` for `space.kind: dataflow`.

    Building one resolves and checks models, tokenizer, data and space, and reads no weights.
    """

    _models: PooledModels

    def __init__(self, config: EvolveConfig) -> None:
        super().__init__(config, open_pool(config))
        self._space = _space(config, self._models)
        self._own_judges = _own_judges(config, self._models)
        self._gated: Programs | None = None

    @property
    def dimension(self) -> int:
        return self._space.dimension

    @property
    def positions(self) -> np.ndarray:
        return self._space.positions

    @property
    def binary(self) -> range:
        return range(self._space.slots)

    @cached_property
    def baselines(self) -> tuple[Untuned, ...]:
        merges = untuned(self._config)
        try:
            self._models.one_layout()
        except CheckpointError as error:
            if merges and self._config.search.baselines is not None:
                raise InputError(f"search.baselines: {merges[0].name} cannot merge these models: {error}") from error
            return ()
        return merges

    @property
    def starts(self) -> tuple[Untuned, ...]:
        return (Untuned(self._config.input, None, (self._config.input,)),)

    @property
    def _needs(self) -> Needs:
        models = self._models
        config = replace(models.config, num_layers=self._space.hops)
        found = self._needs_of(models.experts, config, models.table)
        # An untuned merge has a bank of its own while it is made.
        merging = max((bank_bytes(models.one_layout(), each) for each in self._untuned_operators), default=0)
        layer, ends = models.sizes
        path = (ends + self._space.hops * layer) * self._dtype.itemsize
        # Where the layers lie on the device whole, a path that writes is no copy of them.
        return replace(found, bank=found.bank + merging, written={"sharded": path} if found.written else {})

    @property
    def _untuned_operators(self) -> list[Operator]:
        return [operator(merge.operator) for merge in self.baselines if merge.operator]

    @property
    def _refused(self) -> Mapping[str, str]:
        return {"host": "a path visits the layers in an order of its own; use device or sharded"}

    def _plan(self, home: Home) -> Mapping[str, str]:
        return layers_and_time(
            self._models,
            self._space,
            self._objectives,
            self._dtype,
            home=home,
            population=self._population,
            untuned=self._untuned_operators,
        )

    def load(self) -> None:
        paths, gates = self._populations()
        # One program for all lengths: its windows are those of the pool, of which every hop has one.
        config = replace(self._models.config, num_layers=self._space.hops, windows=self._models.windows)
        shape = Shape(config, self._dtype, self._mesh, self._chunk, self._cache)
        self._programs = Programs(shape, paths)
        gated = replace(config, num_layers=len(self._space.gated_layers))
        self._gated = Programs(replace(shape, config=gated), gates)

    def _populations(self) -> tuple[Population, Population]:
        """What runs paths, and every slot through a gate."""
        models = self._models
        sources = {name: (models.layouts[name][1], Finite(source)) for name, source in models.experts.items()}
        place = Splitting(self._mesh) if self._home.name == "sharded" else self._place
        bank = load_layers(tuple(sources.values()), sources[models.input], place)
        return Routing(bank, self._dtype), Gating(bank, self._space.gated_layers, self._dtype)

    def _values(self, genomes: np.ndarray) -> Values:
        return self._space.decode(genomes)

    def _relaxed(self) -> Relaxation:
        assert self._gated is not None, "load() comes first"
        return Relaxation(self._gated, self._space.gates, self._space.pulled)

    def relaxed(self, start: np.ndarray) -> np.ndarray:
        return self._space.nearly_own()

    def relaxed_origin(self, origin: str) -> str:
        return self._config.input

    def tightened(self, genome: np.ndarray) -> np.ndarray:
        return self._space.halved(genome)

    def _untuned(self, merge: Untuned) -> Runner:
        if merge.operator is None:
            (name,) = merge.sources
            # Its own KV heads may not divide over the devices of a candidate, where the pool's do.
            whole = self._mesh.shape[MODEL] == 1
            source = self._models.parent(name) if whole else self._models.sources[name]
            config, table = layout_of(source)
            return self._single(stored(source, config, table, self._dtype, self._mesh), config, table)
        merger = self._merger
        return self._single(merger.untuned(merge), merger.models.config, merger.models.table)

    @property
    def _merger(self) -> Merger:
        # One for each use, whose bank goes with it: the pool's own has the models' layers in memory already.
        models = self._models.one_layout()
        seed = self._config.search.seed
        return Merger(models, self._dtype, self._mesh, seed, self._home.name, cache=self._cache)

    def _judges(self, candidate: Candidate) -> Sequence[Objective]:
        if isinstance(candidate, Untuned) and candidate.operator is None:
            return self._own_judges.get(candidate.sources[0], self.objectives)
        return self.objectives

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        if isinstance(candidate, Path):
            raise InputError(f"search.start: {candidate}: a data-flow search starts at baseline or center")
        if candidate is None:
            # Genes of 0.5 are even odds to an algorithm that draws switches as such.
            return self._space.none() if self._config.search.algorithm == "catcmawm" else self._space.center()
        return self._space.baseline() if candidate in self.starts else None

    def recipe(self, candidate: Candidate) -> dict[str, Any]:
        if isinstance(candidate, Untuned):
            raise InputError(f"{candidate.name}: is no path through layers; a search for one has no recipe of it")
        models, route = self._models, self._route(candidate)
        written = recipe(
            route, models.pool, models.table, references=models.references, out_dtype=self._out_dtype.name
        )
        taken = {models.pool.layers[place][0] for place in route.layers.tolist()}
        ours = {"seed": self._config.search.seed, "experts": list(models.experts)} | models.kv_heads(taken)
        return written | models.tokenizer_source | {"jaxmerge": ours | described(route, models.pool, models.sizes)}

    def _route(self, genome: np.ndarray) -> Route:
        return self._space.route(genome)

    def export(self, candidate: Candidate, folder: Path) -> None:
        # Streamed from the checkpoints: the recipe's merge is the fold that was scored, and its memory is one tensor's.
        # What earlier stages made is there and need not be made again.
        made = {name: str(self._models.experts[name].folder.resolve()) for name in self._config.earlier}
        documents = [*self.ingredients(candidate), self.recipe(candidate)]
        documents = renamed(documents, lambda reference: made.get(reference, reference))
        merge(documents, folder, max_shard_size=self._config.output.max_shard_size)


def _space(config: EvolveConfig, models: PooledModels) -> DataflowSpace:
    space, sigma = config.space, config.search.sigma
    return DataflowSpace(
        models.pool,
        config.input,
        space.repeats,
        space.scales,
        space.scale.low,
        space.scale.high,
        space.max_hops,
        (start_gene(space.included.input, sigma), start_gene(space.included.others, sigma)),
        own=MERGED if space.kind == "joint" else None,
    )


def _own_judges(config: EvolveConfig, models: PooledModels) -> dict[str, Sequence[Objective]]:
    """The objectives of parents that have a tokenizer of their own: their vocabularies may differ from the input's."""
    common = hash_of_tokenizer(models.tokenizer, TOKENIZER)
    found: dict[str, Sequence[Objective]] = {}
    for parent in parents(config):
        (name,) = parent.sources
        source = models.parent(name)
        files = [file for pattern in TOKENIZER for file in source.folder.glob(pattern)]
        if files and hash_of_tokenizer(source.folder, TOKENIZER) != common:
            tokenizer, size = Tokenizer.open(source.folder), models.layouts[name][0].vocab_size
            found[name] = build_objectives(config.objectives, tokenizer, config.folder, size)
    return found
