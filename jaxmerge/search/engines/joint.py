"""The engine of a joint search: one genome says how the models are merged, and through which layers of the models and
of the merge a text runs."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.population.joint import PREFIX, Joint
from jaxmerge.population.merged import Merging
from jaxmerge.population.programs import Population
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.config import BASE, MERGED, EvolveConfig
from jaxmerge.search.engine import Candidate
from jaxmerge.search.engines.dataflow import DataflowEngine
from jaxmerge.search.engines.following import Relaxation
from jaxmerge.search.engines.home import Home
from jaxmerge.search.engines.merge_part import MergePart, described
from jaxmerge.search.engines.merger import Merger
from jaxmerge.search.engines.needs import Needs
from jaxmerge.search.engines.plan import bank_bytes, memory_and_time
from jaxmerge.spaces.dataflow import Route
from jaxmerge.spaces.joint import JointSpace
from jaxmerge.spaces.parameter import Values

FLOAT32 = np.dtype(np.float32)


class JointEngine(DataflowEngine):
    """Implements `search.engine.Engine` for `space.kind: joint`: a data-flow search over the models and a merge of
    them, which is another one for every candidate.

    The merge is made in float32 and rounded only with the scales of the path, when a layer of it is run.
    """

    def __init__(self, config: EvolveConfig) -> None:
        super().__init__(config)
        self._part = MergePart(config, self._models.one_layout())
        self._joint = JointSpace(self._part.space, self._space)

    @property
    def dimension(self) -> int:
        return self._joint.dimension

    @property
    def positions(self) -> np.ndarray:
        return self._joint.positions

    @property
    def binary(self) -> range:
        first = self._joint.parameter.dimension
        return range(first, first + self._space.slots)

    @property
    def starts(self) -> tuple[Untuned, ...]:
        return self.baselines

    def _plan(self, home: Home) -> Mapping[str, str]:
        models = self._models.one_layout()
        merging = memory_and_time(
            models, self._objectives, self._dtype, home=home, chunk=1, population=self._population
        )
        whole = sum(math.prod(models.table.shape(parameter)) for parameter in models.table) * FLOAT32.itemsize
        written = f"; {home.held(whole) / 2**20:,.1f} MiB for its merge, where text is generated"
        lines = dict(super()._plan(home))
        return lines | {"bank": merging["bank"], "candidate": lines["candidate"] + written}

    @property
    def _needs(self) -> Needs:
        models, found = self._models.one_layout(), super()._needs
        layer, _ = self._models.sizes
        whole = sum(math.prod(models.table.shape(parameter)) for parameter in models.table)
        # One bank for candidates and untuned merges. The merge is in float32 until it is run.
        return replace(
            found,
            bank=bank_bytes(models, self._part.operator),
            merged=found.merged + layer * FLOAT32.itemsize,
            written=dict(found.written) | {"device": whole * FLOAT32.itemsize} if found.written else {},
        )

    @cached_property
    def _merger(self) -> Merger:
        return super()._merger

    def _populations(self) -> tuple[Population, Population]:
        merging = self._part.merging(self._merger, FLOAT32)
        assert isinstance(merging, Merging), "a path runs over a bank on the device"
        ends = self._models.pool.names.index(self._models.input)
        gates = self._space.gated_layers
        return Joint(merging, ends, None, self._dtype), Joint(self._part.relaxed(merging), ends, gates, self._dtype)

    def _values(self, genomes: np.ndarray) -> Values:
        return _marked(self._joint.merge(genomes)) | self._joint.path(genomes)

    def _relaxed(self) -> Relaxation:
        assert self._gated is not None, "load() comes first"

        def values(genome: np.ndarray) -> Values:
            return _marked(self._joint.merge(genome)) | self._joint.gates(genome)

        def pulled(by_value: Values) -> np.ndarray:
            by_merge = {name.removeprefix(PREFIX): array for name, array in by_value.items() if name.startswith(PREFIX)}
            return self._joint.pulled(by_merge, by_value)

        return Relaxation(self._gated, values, pulled)

    def relaxed(self, start: np.ndarray) -> np.ndarray:
        return self._joint.nearly_own(start)

    def relaxed_origin(self, origin: str) -> str:
        # Its merge is the start's own.
        return origin

    def tightened(self, genome: np.ndarray) -> np.ndarray:
        return self._joint.halved(genome)

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        merge = self._part.start(candidate)
        return None if merge is None else self._joint.start(merge)

    def ingredients(self, candidate: Candidate) -> list[dict[str, Any]]:
        if isinstance(candidate, Untuned) or not self._uses_merge(candidate):
            return []
        own = self._part.assignment(self._joint.merge(candidate))
        # The seed of its masks; the rest stands in the recipe itself.
        ours = {"jaxmerge": {"seed": self._config.search.seed} | self._models.kv_heads((*self._config.models, BASE))}
        return [{"name": MERGED} | self._part.recipe(own, FLOAT32.name) | ours]

    def recipe(self, candidate: Candidate) -> dict[str, Any]:
        written = super().recipe(candidate)
        assert not isinstance(candidate, Untuned)
        ours = described(self._part.assignment(self._joint.merge(candidate)), tuple(self._config.models))
        return written | {"jaxmerge": written["jaxmerge"] | ours}

    def _route(self, genome: np.ndarray) -> Route:
        return self._joint.route(genome)

    def _uses_merge(self, genome: np.ndarray) -> bool:
        # A path that starts with the merge's embeddings starts with its first layer as well.
        first, last = self._models.pool.ends(MERGED)
        return any(first <= layer <= last for layer in self._route(genome).layers.tolist())


def _marked(merge: Values) -> Values:
    return {PREFIX + name: array for name, array in merge.items()}
