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
from jaxmerge.operators.registry import operator
from jaxmerge.population.runner import Programs
from jaxmerge.search.baselines import Untuned, untuned
from jaxmerge.search.config import BASE, EvolveConfig
from jaxmerge.search.engine import Candidate
from jaxmerge.search.merger import Assignment, Merger
from jaxmerge.search.plan import memory_and_time
from jaxmerge.search.scoring_engine import Relaxation, ScoringEngine
from jaxmerge.search.sources import open_models
from jaxmerge.search.space_config import Bounds
from jaxmerge.search.warm_start import start_of
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import ParameterSpace, Range, Setting
from jaxmerge.spaces.recipe import recipe


class ParameterEngine(ScoringEngine):
    """Implements `search.engine.Engine` for `space.kind: parameter`.

    Building one resolves and checks models, tokenizer, data and space, and reads no weights.
    """

    def __init__(self, config: EvolveConfig) -> None:
        super().__init__(config, open_models(config))
        self._merger = Merger(self._models, self._dtype, self._mesh, self._chunk, config.search.seed)
        self._operator = operator(config.space.operator)
        self._groups = Groups.of(self._models.table, Granularity.parse(config.space.granularity))
        self._space = ParameterSpace(self._operator, tuple(config.models), self._groups, _settings(config))
        self._programs: Programs | None = None

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

    def plan(self) -> Mapping[str, str]:
        return memory_and_time(
            self._models, self._objectives, self._dtype, block=self._mesh.size * self._chunk, chunk=self._chunk
        )

    def load(self) -> None:
        grid = {p.name: self._space.grid(p) for p in self._operator.parameters if p.gridded}
        self._programs = self._merger.programs(self._operator, grid, self._groups)

    def _candidates(self, genomes: np.ndarray) -> Runner:
        assert self._programs is not None, "load() comes first"
        return self._programs.candidates(self._space.decode(genomes))

    def _untuned(self, merge: Untuned) -> Runner:
        return self._single(self._merger.untuned(merge), self._models.config)

    def _relaxed(self) -> Relaxation:
        assert self._programs is not None, "load() comes first"
        return Relaxation(self._programs, self._space.decode, self._space.pulled)

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        if candidate is None:
            return self._space.center()
        values = start_of(candidate, self._space, self._models)
        return None if values is None else self._space.encode(values | _initial(self._config))

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
        experts = candidate.sources if isinstance(candidate, Untuned) else tuple(self._config.models)
        written = recipe(
            own.operator,
            own.values,
            own.groups,
            self._models.table,
            models=tuple(self._models.references[name] for name in experts),
            base=self._models.references.get(BASE),
            out_dtype=self._out_dtype.name,
        )
        # By this name an operator of the user's own is found again.
        written["merge_method"] = candidate.operator if isinstance(candidate, Untuned) else self._config.space.operator
        tokenizer = self._models.tokenizer
        if tokenizer != self._models.like.folder:
            written["tokenizer_source"] = str(tokenizer.resolve())
        ours = {
            "seed": self._config.search.seed,
            "experts": list(experts),
            "groups": list(own.groups.names),
            "parameters": {name: _rounded(array) for name, array in own.values.items()},
        }
        return written | {"jaxmerge": ours}

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
        if self._programs is None:
            self.load()
        assert self._programs is not None
        return self._merger.merged(self._programs, self._space.decode(candidate))

    def _assignment(self, candidate: Candidate) -> Assignment:
        if isinstance(candidate, Untuned):
            return self._merger.assignment(candidate)
        return Assignment(self._operator, self._space.decode(candidate), self._groups)


def _settings(config: EvolveConfig) -> dict[str, Setting]:
    return {
        name: Range(setting.low, setting.high, setting.init) if isinstance(setting, Bounds) else setting
        for name, setting in config.space.parameters.items()
    }


def _initial(config: EvolveConfig) -> dict[str, float]:
    settings = config.space.parameters.items()
    return {name: s.init for name, s in settings if isinstance(s, Bounds) and s.init is not None}


def _rounded(array: np.ndarray) -> Any:
    """Nested lists of the shortest decimals that read back to the same float32."""
    if array.ndim:
        return [_rounded(row) for row in array]
    return float(np.format_float_scientific(np.float32(array), unique=True))
