"""Merges of checkpoints that lie nowhere in memory: each is made tensor by tensor, and is one model when it is made."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxmerge.architectures.table import Parameter, Table
from jaxmerge.models.weights import Params
from jaxmerge.objectives.interface import Batch
from jaxmerge.objectives.single import SingleModel
from jaxmerge.operators.interface import Operator, Sources
from jaxmerge.operators.whole_tensor import merge_tensor
from jaxmerge.population.bank import Source
from jaxmerge.population.merged import Members
from jaxmerge.population.programs import Shape


@dataclass(frozen=True)
class Files:
    """Implements `bank.Readable`: every tensor is read when it is asked for."""

    table: Table
    base: Source | None
    experts: tuple[Source, ...]

    @property
    def count(self) -> int:
        return len(self.experts)

    def sources(self, parameter: Parameter, layer: int) -> Sources:
        name = parameter.names(self.table.num_layers)[layer]
        base = None if self.base is None else self.base.read(name)
        return Sources(base, tuple(expert.read(name) for expert in self.experts))


@dataclass(frozen=True)
class FileMerging:
    """What `merged.Merging` is. seed: of the masks."""

    files: Files
    operator: Operator
    members: Members
    dtype: Any
    seed: int

    def model(self, values: Mapping[str, np.ndarray]) -> Params:
        """A candidate's weights, stacked over layers. values: of one."""
        return {parameter.path: self._stacked(parameter, values) for parameter in self.files.table}

    def _stacked(self, parameter: Parameter, values: Mapping[str, np.ndarray]) -> Any:
        names, groups = parameter.names(self.files.table.num_layers), np.atleast_1d(self.members[parameter.path])
        merged = [self._merged(parameter, layer, name, groups[layer], values) for layer, name in enumerate(names)]
        return jnp.asarray(np.stack(merged) if parameter.stacked else merged[0])

    def _merged(
        self, parameter: Parameter, layer: int, name: str, group: int, values: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        sources = self.files.sources(parameter, layer)
        params = {key: array[group] for key, array in values.items()}
        merged = merge_tensor(self.operator, sources.base, sources.experts, params, tensor=name, seed=self.seed)
        return np.asarray(merged.astype(self.dtype))


@dataclass(frozen=True)
class FilePrograms:
    """What `runner.Programs` is for them."""

    shape: Shape
    merging: FileMerging

    def candidates(self, values: dict[str, np.ndarray]) -> "OneByOne":
        return OneByOne(self, values)

    def model(self, values: Mapping[str, np.ndarray]) -> Params:
        return self.merging.model(values)


class OneByOne:
    """P candidates of which one is in memory; implements `objectives.interface.Runner`."""

    def __init__(self, programs: FilePrograms, values: dict[str, np.ndarray]) -> None:
        self._programs, self._values = programs, values
        self._last: tuple[int, SingleModel] | None = None

    @property
    def size(self) -> int:
        return next(iter(self._values.values())).shape[0]

    def likelihood(self, batch: Batch) -> np.ndarray:
        return self._each(lambda model: model.likelihood(batch))

    def entropy(self, batch: Batch) -> np.ndarray:
        return self._each(lambda model: model.entropy(batch))

    def generate(self, batch: Batch, max_new_tokens: int, stop_ids: tuple[int, ...]) -> np.ndarray:
        return self._each(lambda model: model.generate(batch, max_new_tokens, stop_ids))

    def _each(self, run: Callable[[SingleModel], np.ndarray]) -> np.ndarray:
        return np.concatenate([run(self._model(place)) for place in range(self.size)])

    def _model(self, place: int) -> SingleModel:
        if self._last is None or self._last[0] != place:
            self._last = None  # it goes before another comes
            shape = self._programs.shape
            params = self._programs.model({name: array[place] for name, array in self._values.items()})
            self._last = place, SingleModel(params, shape.config, np.dtype(shape.dtype), cache=shape.cache)
        return self._last[1]
