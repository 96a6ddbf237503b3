"""The engine of a parameter-space search: genomes and untuned merges in, scores, recipes and folders out."""

import logging
from collections.abc import Mapping
from copy import copy
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.companions import TOKENIZER, copy_companions
from jaxmerge.converters.hf import save_params
from jaxmerge.converters.output_folder import output_folder
from jaxmerge.converters.writer import parse_size
from jaxmerge.models.weights import Params
from jaxmerge.objectives.interface import Runner
from jaxmerge.population.from_files import FilePrograms
from jaxmerge.population.merged import Merging
from jaxmerge.population.programs import Population, Shape
from jaxmerge.population.runner import Programs
from jaxmerge.runtime.memory import Devices, here, named
from jaxmerge.runtime.mesh import POP, own_device, spans_processes
from jaxmerge.search.baselines import Untuned, untuned
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Candidate
from jaxmerge.search.engines import forward
from jaxmerge.search.engines.compression import compressed_needs
from jaxmerge.search.engines.following import Relaxation
from jaxmerge.search.engines.forward import Forward
from jaxmerge.search.engines.home import Home
from jaxmerge.search.engines.merge_part import MergePart
from jaxmerge.search.engines.merger import AnyMerging, Assignment, Merger
from jaxmerge.search.engines.needs import Needs
from jaxmerge.search.engines.plan import memory_and_time
from jaxmerge.search.engines.scoring import ScoringEngine
from jaxmerge.search.engines.sources import Models, open_models
from jaxmerge.spaces.parameter import Values

log = logging.getLogger("jaxmerge")


class ParameterEngine(ScoringEngine):
    """Implements `search.engine.Engine` for `space.kind: parameter`.

    Building one resolves and checks models, tokenizer, data and space, and reads no weights.
    """

    _smooth = True
    _spans = True

    def __init__(self, config: EvolveConfig) -> None:
        super().__init__(config, open_models(config))
        self._part = self._searched_part()
        self._space = self._part.space
        self._merging: AnyMerging | None = None
        # What runs the candidates of the search, where that is not what is exact.
        self._approximate: Programs | None = None

    @property
    def _searched(self) -> Models:
        """The models that candidates are merged from."""
        return self._models

    @property
    def _held(self) -> Models:
        """All models of which merges are made."""
        return self._models

    def _searched_part(self) -> MergePart:
        return MergePart(self._config, self._searched)

    @property
    def dimension(self) -> int:
        return self._space.dimension

    @cached_property
    def baselines(self) -> tuple[Untuned, ...]:
        return untuned(self._config)

    @property
    def starts(self) -> tuple[Untuned, ...]:
        return self.baselines

    @property
    def positions(self) -> np.ndarray:
        return self._space.positions

    @cached_property
    def _merger(self) -> Merger:
        """Makes the untuned merges."""
        return self._merger_of(self._models)

    @property
    def _searched_merger(self) -> Merger:
        """Makes the candidates."""
        return self._merger

    def _merger_of(self, models: Models) -> Merger:
        home, seed = self._home, self._config.search.seed
        # What is exact is rare, and needs no bank beside that of the candidates.
        apart = self._forward.lora is not None or self._config.runtime.compression is not None
        name = "files" if apart else home.name
        return Merger(models, self._dtype, self._mesh, seed, name, home.waiting, self._cache)

    @cached_property
    def _forward(self) -> Forward:
        memory = self._config.runtime.memory
        return self._forward_on(here(jax.devices(), None if memory is None else parse_size(memory)))

    def _forward_on(self, devices: Devices) -> Forward:
        models, operator = self._searched, self._part.operator
        if kind := self._config.runtime.compression:
            return Forward("merged", f"of task vectors as {kind} (runtime.compression), and exactly from the files")
        found = forward.choose(self._config, models, operator, self._texts, self._dtype, devices.name)
        if not found.batched or self._config.runtime.forward == "batched":
            return found
        held = self._held
        needs = self._needs_of(held.sources, held.config, held.table)
        if forward.fits(forward.batched_needs(needs, found, models, self._at_once), devices):
            return found
        return Forward("merged", "to be scored as one batch, candidates need more memory than a device has")

    @property
    def _at_once(self) -> int:
        """Candidates of a device, as far as they run as one batch; before the population is known, as a rule."""
        if self._settled:
            return self._chunk
        return forward.candidates_at_once(self._models.config, self._population, len(jax.devices()), self._texts)

    def chunks(self, population: int) -> tuple[int, ...]:
        if self._settled or not self._forward.batched:
            return super().chunks(population)
        pop = self._mesh.shape[POP]
        return (forward.candidates_at_once(self._models.config, population, pop, self._texts),)

    def _run_at_once(self, chunk: int) -> None:
        if self._approximate is None:
            super()._run_at_once(chunk)
            return
        # Finalists are merged one after another.
        self._chunk = chunk
        if not self._forward.batched:
            self._home = self._home.at(chunk)
        self._approximate = Programs(replace(self._approximate.shape, chunk=chunk), self._approximate.population)

    @property
    def _needs(self) -> Needs:
        held = self._held
        needs = self._needs_of(held.sources, held.config, held.table, self._part.operator)
        found = self._forward
        if found.batched:
            return forward.batched_needs(needs, found, self._searched, self._at_once)
        return compressed_needs(needs, held, self._config)

    @property
    def _refused(self) -> Mapping[str, str]:
        if self._forward.batched:
            why = "runtime.forward is batched, which has the sources on the device; use device, or forward: merged"
            return {"host": why, "sharded": why}
        if self.approximates:
            why = "runtime.compression has the sources on the device; use device"
            return {"host": why, "sharded": why}
        if not self._config.search.differentiates:
            return {}
        return {"host": "a gradient needs all layers at once; use device or sharded, or search without gradients"}

    def _plan(self, home: Home) -> Mapping[str, str]:
        return memory_and_time(
            self._held,
            self._objectives,
            self._dtype,
            home=home,
            chunk=self._chunk,
            population=self._population,
        )

    def plan(self, devices: str | None = None) -> Mapping[str, str]:
        if devices is None:
            return super().plan()
        there, memory = copy(self), self._config.runtime.memory
        found = named(devices)
        there._forward = self._forward_on(found if memory is None else replace(found, memory=parse_size(memory)))
        return super(ParameterEngine, there).plan(devices)

    def load(self) -> None:
        log.info("forward: %s", self._forward.line)
        merger, batched = self._searched_merger, self._forward.batched
        self._merging = self._part.merging(merger, self._dtype)
        self._programs = merger.programs(self._merging, 1 if batched else self._chunk)
        if self.approximates:
            config, chunk = self._models.config, self._chunk
            shape = Shape(config, self._dtype, self._mesh, chunk, cache=self._cache, folded=batched)
            self._approximate = Programs(shape, self._approximation(self._merging))

    def _approximation(self, merging: AnyMerging) -> Population:
        """The candidates of the search, where they are not exact."""
        merger, grid = self._searched_merger, self._part.grid
        if kind := self._config.runtime.compression:
            return merger.compressed(merging, kind, grid)
        return merger.batching(merging, self._forward.lora, grid)

    def _values(self, genomes: np.ndarray) -> Values:
        return self._space.decode(genomes)

    def _untuned(self, merge: Untuned) -> Runner:
        if self._home.name == "host":
            return self._merger.untuned_candidate(merge)
        return self._single(self._merger.untuned(merge), self._models.config, self._models.table)

    def _relaxed(self) -> Relaxation:
        return Relaxation(self._followed, self._space.decode, self._space.pulled)

    @cached_property
    def _followed(self) -> Programs:
        """The programs with a gradient by every parameter."""
        programs = self._approximate if isinstance(self._programs, FilePrograms) else self._programs
        assert isinstance(programs, Programs), "load() comes first"
        if not isinstance(programs.population, Merging):
            return programs
        merging = self._part.relaxed(programs.population)
        return programs if merging is programs.population else Programs(programs.shape, merging)

    def _candidates(self, genomes: np.ndarray, exact: bool = False) -> Runner:
        if exact or self._approximate is None:
            return super()._candidates(genomes, exact)
        return self._approximate.candidates(self._values(genomes))

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        return self._part.start(candidate)

    def recipe(self, candidate: Candidate) -> dict[str, Any]:
        if isinstance(candidate, Untuned) and candidate.operator is None:
            source = self._models.references[candidate.sources[0]]
            return {
                "merge_method": "passthrough",
                "models": [{"model": source}],
                "dtype": "float32",
                "out_dtype": self._out_dtype.name,
            }
        own = self._assignment(candidate)
        if isinstance(candidate, Untuned):
            written = self._part.recipe(own, self._out_dtype.name, candidate.sources, candidate.operator)
        else:
            written = self._part.recipe(own, self._out_dtype.name)
        return written | self._models.tokenizer_source

    def export(self, candidate: Candidate, folder: Path) -> None:
        params, like = self.parameters(candidate), self._like
        with output_folder(folder) as part:
            save_params(
                params,
                self._models.table,
                part,
                like=like,
                dtype=self._out_dtype,
                max_shard_size=self._config.output.max_shard_size,
            )
            if self._models.tokenizer != like.folder:
                copy_companions(self._models.tokenizer, part, TOKENIZER)

    @property
    def _like(self) -> Checkpoint:
        """The model whose config.json and companions a candidate takes along."""
        return self._models.like

    def parameters(self, candidate: Candidate) -> Params:
        """The candidate's weights as they are scored: in `runtime.dtype`, stacked over layers."""
        if spans_processes(self._mesh):
            # None of its processes holds a source whole: this one merges from the files, for itself.
            alone = Merger(self._models, self._dtype, own_device(), self._config.search.seed, "files")
            if isinstance(candidate, Untuned):
                return alone.untuned(candidate)
            return alone.merged(self._part.merging(alone, self._dtype), self._space.decode(candidate))
        if isinstance(candidate, Untuned):
            return self._merger.untuned(candidate)
        if self._merging is None:
            self.load()
        assert self._merging is not None
        return self._searched_merger.merged(self._merging, self._space.decode(candidate))

    def _assignment(self, candidate: Candidate) -> Assignment:
        if isinstance(candidate, Untuned):
            return self._merger.assignment(candidate)
        return self._part.assignment(self._space.decode(candidate))
