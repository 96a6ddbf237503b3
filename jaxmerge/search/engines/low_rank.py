"""The engine of a search that leaves the hull of the models: along random low-rank directions around one of them.

Every direction reads as a model (`converters.directions`), and a candidate adds them up as task arithmetic does, each
with a coefficient between -1 and 1 for every group of layers. With all coefficients 0 it is the model itself, bit for
bit. That is how EGGROLL (Sarkar et al. 2025, arXiv:2511.16652) perturbs a model; here the perturbations are drawn once,
and any algorithm searches how much there is to be of each.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.directions import Directions
from jaxmerge.errors import InputError
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.config import BASE
from jaxmerge.search.engine import Candidate
from jaxmerge.search.engines.merge_part import MergePart
from jaxmerge.search.engines.merger import Merger
from jaxmerge.search.engines.parameter import ParameterEngine
from jaxmerge.search.engines.sources import Models
from jaxmerge.search.keys import host_seed, stage_key
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import Range


class LowRankEngine(ParameterEngine):
    """Implements `search.engine.Engine` for `space.kind: low_rank`.

    Parents and untuned merges are those of the config's models.
    """

    def _searched_part(self) -> MergePart:
        """The matrices of blocks are all that directions change."""
        found = self._searched
        groups = Groups.of_blocks(found.table, Granularity.parse(self._config.space.granularity))
        return MergePart(self._config, found, groups, {"weight": Range(-1.0, 1.0)})

    @cached_property
    def _center(self) -> Checkpoint:
        source = self._models.sources[self._config.around]
        if source.location.adapter is not None:
            raise InputError(
                f"space.around: {source.location} has a LoRA already, and a recipe has no place for a second one; "
                "merge it first (jaxmerge merge)"
            )
        return source

    @cached_property
    def _directions(self) -> Directions:
        space, table = self._config.space, self._models.table
        matrices = (p for p in table if p.stacked and len(p.shape) == 2)
        names = tuple(name for p in matrices for name in p.names(table.num_layers))
        seed = host_seed(stage_key(self._config.search.seed, self._config.stage))
        return Directions(self._center, names, space.rank, space.reach, tuple(seed))

    @cached_property
    def _searched(self) -> Models:
        """The directions as models; the base is what they are around."""
        around, own = self._config.around, self._models
        names = [f"direction_{index}" for index in range(self._config.space.directions)]
        near = {name: self._directions.reading(index, name) for index, name in enumerate(names)}
        # What a stage made has the tokenizer of all.
        tokenizer = self._center.folder if around in self._config.earlier else own.tokenizer
        references = {name: name for name in names} | {BASE: own.references[around]}
        return Models(dict(near), self._center, tokenizer, own.config, own.table, references)

    @property
    def starts(self) -> tuple[Untuned, ...]:
        return (Untuned(self._config.around, None, (self._config.around,)),)

    @cached_property
    def _searched_merger(self) -> Merger:
        return self._merger_of(self._searched)

    @property
    def _held(self) -> Models:
        return replace(self._models, experts=self._models.experts | self._searched.experts)

    @property
    def _like(self) -> Checkpoint:
        return self._center

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        if isinstance(candidate, Path):
            raise InputError(f"search.start: {candidate}: a low-rank search starts at the model that it is around")
        return self._space.center()

    def recipe(self, candidate: Candidate) -> dict[str, Any]:
        if isinstance(candidate, Untuned):
            raise InputError(f"{candidate.name}: is no sum of directions; a search along them has no recipe of it")
        space = self._config.space
        own = {"around": self._config.around, "rank": space.rank, "reach": space.reach}
        written = self._part.recipe(self._assignment(candidate), self._out_dtype.name) | self._searched.tokenizer_source
        return written | {"jaxmerge": written["jaxmerge"] | {"directions": own}}

    def write_adapters(self, folder: Path) -> None:
        for index, name in enumerate(self._searched.experts):
            (folder / name).mkdir(parents=True)
            self._directions.write(index, folder / name, self._base)

    def adapted(self, folder: Path) -> Mapping[str, str]:
        home = folder.resolve()
        directions = {name: f"{self._base}+{home / name}" for name in self._searched.experts}
        return directions | {self._searched.references[BASE]: self._base}

    @property
    def _base(self) -> str:
        """The reference of what directions are around. What a stage made is named by its folder: a LoRA is for a model
        that lies somewhere."""
        around = self._config.around
        made = around in self._config.earlier
        return str(self._center.folder.resolve()) if made else self._models.references[around]
