"""How a config's models are merged: operator, groups, the space of its parameters, and a point of it as a recipe.

It is all of a search in parameter space, and the first part of a joint one.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.operators.secant import Steps, with_secants
from jaxmerge.population.merged import Merging
from jaxmerge.search.baselines import Untuned
from jaxmerge.search.config import BASE, EvolveConfig
from jaxmerge.search.engines.merger import AnyMerging, Assignment, Merger
from jaxmerge.search.engines.sources import Models
from jaxmerge.search.engines.warm_start import start_of
from jaxmerge.search.space_config import Bounds
from jaxmerge.spaces.groups import Granularity, Groups
from jaxmerge.spaces.parameter import ParameterSpace, Range, Setting, Values
from jaxmerge.spaces.recipe import recipe


class MergePart:
    """models: of one layout. groups, settings: None: those of the config."""

    def __init__(
        self,
        config: EvolveConfig,
        models: Models,
        groups: Groups | None = None,
        settings: Mapping[str, Setting] | None = None,
    ) -> None:
        self._config, self._models = config, models
        self.operator = config.operator
        self.groups = groups or Groups.of(models.table, Granularity.parse(config.space.granularity))
        settings = _settings(config) if settings is None else settings
        self.space = ParameterSpace(self.operator, tuple(models.experts), self.groups, settings)

    def merging(self, merger: Merger, dtype: np.dtype) -> AnyMerging:
        """What all candidates share. dtype: of what is merged."""
        return merger.merging(self.operator, self.grid, self.groups, dtype=dtype)

    @property
    def grid(self) -> dict[str, np.ndarray]:
        """See `population.bank.prepare`."""
        return {p.name: self.space.grid(p) for p in self.operator.parameters if p.gridded}

    def relaxed(self, merging: Merging) -> Merging:
        """The same, with a gradient by parameters that are looked up on a grid."""
        searched = [parameter for parameter, _ in self.space.searched if parameter.gridded]
        grids = [(p.name, self.space.grid(p)) for p in searched]
        steps = [Steps(name, float(grid[0]), float(grid[-1]), float(grid[1] - grid[0])) for name, grid in grids]
        return replace(merging, operator=with_secants(merging.operator, tuple(steps))) if steps else merging

    def start(self, candidate: Untuned | Path | None) -> np.ndarray | None:
        """See `search.engine.Engine.start`."""
        if candidate is None:
            return self.space.center()
        values = start_of(candidate, self.space, self._models)
        return None if values is None else self.space.encode(values | _initial(self._config))

    def assignment(self, values: Values) -> Assignment:
        return Assignment(self.operator, values, self.groups)

    def recipe(
        self, own: Assignment, out_dtype: str, experts: tuple[str, ...] | None = None, name: str | None = None
    ) -> dict[str, Any]:
        """mergekit YAML in plain Python, with our own keys. experts: the models merged; None: all. name: the operator's
        in the config, by which one of the user's own is found again; None: that of the space."""
        experts = tuple(self._models.experts) if experts is None else experts
        written = recipe(
            own.operator,
            own.values,
            own.groups,
            self._models.table,
            models=tuple(self._models.references[expert] for expert in experts),
            base=self._models.references.get(BASE),
            out_dtype=out_dtype,
        )
        written["merge_method"] = name or self._config.method
        return written | {"jaxmerge": {"seed": self._config.search.seed} | described(own, experts)}


def described(own: Assignment, experts: tuple[str, ...]) -> dict[str, Any]:
    """What our own block of a recipe says of a merge."""
    return {
        "experts": list(experts),
        "groups": list(own.groups.names),
        "parameters": {name: _rounded(array) for name, array in own.values.items()},
    }


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
