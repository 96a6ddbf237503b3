"""The engine of a parameter-space search: genomes and untuned merges in, scores, recipes and folders out."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.companions import TOKENIZER, copy_companions
from jaxmerge.converters.hf import save_params
from jaxmerge.converters.output_folder import output_folder
from jaxmerge.models.weights import Params
from jaxmerge.objectives.interface import Runner
from jaxmerge.population.merged import Merging
from jaxmerge.population.runner import Programs
from jaxmerge.search.algorithms.registry import OPTIMIZERS
from jaxmerge.search.baselines import Untuned, untuned
from jaxmerge.search.config import EvolveConfig
from jaxmerge.search.engine import Candidate
from jaxmerge.search.engines.home import Home
from jaxmerge.search.engines.merge_part import MergePart
from jaxmerge.search.engines.merger import AnyMerging, Assignment, Merger
from jaxmerge.search.engines.needs import Needs
from jaxmerge.search.engines.plan import memory_and_time
from jaxmerge.search.engines.scoring import Relaxation, ScoringEngine
from jaxmerge.search.engines.sources import open_models
from jaxmerge.spaces.parameter import Values


class ParameterEngine(ScoringEngine):
    """Implements `search.engine.Engine` for `space.kind: parameter`.

    Building one resolves and checks models, tokenizer, data and space, and reads no weights.
    """

    _smooth = True

    def __init__(self, config: EvolveConfig) -> None:
        super().__init__(config, open_models(config))
        self._part = MergePart(config, self._models)
        self._space = self._part.space
        self._merging: AnyMerging | None = None

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
        home, seed = self._home, self._config.search.seed
        return Merger(self._models, self._dtype, self._mesh, seed, home.name, home.waiting)

    @property
    def _needs(self) -> Needs:
        models = self._models
        return self._needs_of(models.sources, models.config, models.table, self._part.operator)

    @property
    def _refused(self) -> Mapping[str, str]:
        search = self._config.search
        if search.warm_start is None and search.algorithm not in OPTIMIZERS:
            return {}
        return {"host": "a gradient needs all layers at once; use device or sharded, or search without gradients"}

    def _plan(self, home: Home) -> Mapping[str, str]:
        return memory_and_time(
            self._models, self._objectives, self._dtype, home=home, chunk=self._chunk, operator=self._part.operator
        )

    def load(self) -> None:
        self._merging = self._part.merging(self._merger, self._dtype)
        self._programs = self._merger.programs(self._merging, self._chunk)

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
        assert self._programs is not None and isinstance(self._merging, Merging), "load() comes first"
        merging = self._part.relaxed(self._merging)
        return self._programs if merging is self._merging else Programs(self._programs.shape, merging)

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
        params = self.parameters(candidate)
        with output_folder(folder) as part:
            save_params(
                params,
                self._models.table,
                part,
                like=self._models.like,
                dtype=self._out_dtype,
                max_shard_size=self._config.output.max_shard_size,
            )
            if self._models.tokenizer != self._models.like.folder:
                copy_companions(self._models.tokenizer, part, TOKENIZER)

    def parameters(self, candidate: Candidate) -> Params:
        """The candidate's weights as they are scored: in `runtime.dtype`, stacked over layers."""
        if isinstance(candidate, Untuned):
            return self._merger.untuned(candidate)
        if self._merging is None:
            self.load()
        assert self._merging is not None
        return self._merger.merged(self._merging, self._space.decode(candidate))

    def _assignment(self, candidate: Candidate) -> Assignment:
        if isinstance(candidate, Untuned):
            return self._merger.assignment(candidate)
        return self._part.assignment(self._space.decode(candidate))
