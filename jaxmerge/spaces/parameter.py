"""Parameter space: a genome says, for each group of tensors, the operator's parameters.

A genome is a point of the unit box `[0, 1]^d`. A gene is one searched parameter of one group, of one expert where the
parameter is per source; it runs from the parameter's lower to its upper bound. Values are float32, and gridded ones
(densities) are rounded to a grid of binary fractions, so that the recipe written as text gives the same numbers again.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np

from jaxmerge.errors import InputError
from jaxmerge.operators.interface import Operator, Parameter
from jaxmerge.spaces.groups import Groups


@dataclass(frozen=True)
class Range:
    """Bounds of a searched parameter, and its value at the search's start (None: the middle)."""

    low: float
    high: float
    init: float | None = None


Setting = Range | float | bool
# A parameter's values: `[..., G, K]` where it is per source, else `[..., G]`, float32.
Values = dict[str, np.ndarray]


@dataclass(frozen=True)
class ParameterSpace:
    """The search space of one operator over K experts and G groups.

    settings: what the config says of the operator's parameters; those it does not mention keep their defaults.
    """

    operator: Operator
    experts: tuple[str, ...]
    groups: Groups
    settings: Mapping[str, Setting]

    def __post_init__(self) -> None:
        for parameter in self.operator.parameters:
            setting = self.settings.get(parameter.name, parameter.default)
            if setting is None:
                raise InputError(
                    f"space.parameters: {self.operator.name} needs '{parameter.name}', as a number or as [low, high]"
                )
        if not self.searched:
            raise InputError("space.parameters: nothing to search; give at least one parameter as [low, high]")
        self._check()

    def _check(self) -> None:
        """Asks the operator about every combination of its gridded values."""
        grids = {p.name: self.grid(p) for p in self.operator.parameters if p.gridded}
        start = {name: values[0].tolist() for name, values in self.decode(self.center()).items()}
        for chosen in product(*grids.values()) if grids else ():
            if complaint := self.operator.check(start | dict(zip(grids, map(float, chosen), strict=True))):
                raise InputError(f"space.parameters: {complaint}")

    @cached_property
    def searched(self) -> tuple[tuple[Parameter, Range], ...]:
        """The searched parameters in the operator's order."""
        return tuple(
            (parameter, setting)
            for parameter in self.operator.parameters
            if isinstance(setting := self.settings.get(parameter.name), Range)
        )

    def _shape(self, parameter: Parameter) -> tuple[int, ...]:
        count = len(self.groups.names)
        return (count, len(self.experts)) if parameter.per_source else (count,)

    @cached_property
    def dimension(self) -> int:
        return sum(int(np.prod(shape)) for shape in self._shapes)

    @cached_property
    def genes(self) -> tuple[str, ...]:
        """A label for each gene: `weight[math] layers.3`."""
        return tuple(
            f"{parameter.name}{suffix} {group}"
            for parameter, _ in self.searched
            for group in self.groups.names
            for suffix in ([f"[{expert}]" for expert in self.experts] if parameter.per_source else [""])
        )

    @cached_property
    def positions(self) -> np.ndarray:
        """Where in the model each gene acts: float64 `[d]`, from 0 for the first group to 1 for the last."""
        count = len(self.groups.names)
        places = np.arange(count) / max(count - 1, 1)
        parts = [np.broadcast_to(places.reshape(-1, *[1] * (len(shape) - 1)), shape).ravel() for shape in self._shapes]
        return np.concatenate(parts)

    @property
    def _shapes(self) -> list[tuple[int, ...]]:
        return [self._shape(parameter) for parameter, _ in self.searched]

    def grid(self, parameter: Parameter) -> np.ndarray:
        """The values a gridded parameter takes, ascending, float64."""
        setting = self.settings.get(parameter.name, parameter.default)
        if not isinstance(setting, Range):
            assert setting is not None
            return np.array([float(setting)])
        step = 1.0 if parameter.kind == "integer" else 1 / (8 * parameter.cells)
        while parameter.kind != "integer" and step > (setting.high - setting.low) / parameter.cells:
            step /= 2
        return np.arange(np.ceil(setting.low / step), np.floor(setting.high / step) + 1) * step

    def center(self) -> np.ndarray:
        """The genome at every setting's `init`, or at the middle of its bounds: float32 `[d]`."""
        parts = [
            np.full(self._shape(p), 0.5 if r.init is None else (r.init - r.low) / (r.high - r.low)).ravel()
            for p, r in self.searched
        ]
        return np.concatenate(parts).astype(np.float32)

    def decode(self, genomes: np.ndarray) -> Values:
        """Genomes `[..., d]` to every parameter's values, searched or not, `[..., G(, K)]`."""
        values: Values = {}
        leading = genomes.shape[:-1]
        position = 0
        ranges = {parameter.name: setting for parameter, setting in self.searched}
        for parameter in self.operator.parameters:
            shape = self._shape(parameter)
            if (setting := ranges.get(parameter.name)) is None:
                fixed = self.settings.get(parameter.name, parameter.default)
                assert fixed is not None and not isinstance(fixed, Range)
                values[parameter.name] = np.full((*leading, *shape), float(fixed), np.float32)
                continue
            size = int(np.prod(shape))
            genes = genomes[..., position : position + size].astype(np.float64).reshape(*leading, *shape)
            position += size
            raw = setting.low + genes * (setting.high - setting.low)
            values[parameter.name] = self._rounded(parameter, raw).astype(np.float32)
        return values

    def encode(self, values: Mapping[str, np.ndarray | float]) -> np.ndarray:
        """The genome nearest to `values` (each broadcast to `[G(, K)]`), clipped to the bounds: float32 `[d]`.
        A searched parameter that `values` does not mention stays at its start."""
        center = self.center()
        parts, position = [], 0
        for parameter, setting in self.searched:
            shape = self._shape(parameter)
            size = int(np.prod(shape))
            if parameter.name in values:
                raw = np.broadcast_to(np.asarray(values[parameter.name], np.float64), shape)
                parts.append(np.clip((raw - setting.low) / (setting.high - setting.low), 0, 1).ravel())
            else:
                parts.append(center[position : position + size])
            position += size
        return np.concatenate(parts).astype(np.float32)

    def by_parameter(self, genes: np.ndarray) -> Values:
        """What stands for each gene, `[d]`, as the searched parameters' values lie: `[G(, K)]` each."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self._shapes])
        parts = np.split(genes, ends[:-1])
        named = zip(self.searched, parts, self._shapes, strict=True)
        return {parameter.name: part.reshape(shape) for (parameter, _), part, shape in named}

    def pulled(self, by_value: Values) -> np.ndarray:
        """The gradient by the genes, float32 `[d]`, of one by the values of one candidate. Genes that are rounded to a
        grid have that of the values that they are rounded to (see `operators.secant`); those that are rounded to whole
        numbers have none."""
        parts = []
        for parameter, setting in self.searched:
            smooth = 0.0 if parameter.kind == "integer" else setting.high - setting.low
            parts.append(by_value[parameter.name].ravel() * smooth)
        return np.concatenate(parts).astype(np.float32)

    def _rounded(self, parameter: Parameter, raw: np.ndarray) -> np.ndarray:
        if parameter.gridded:
            grid = self.grid(parameter)
            step = grid[1] - grid[0]
            return grid[0] + np.clip(np.round((raw - grid[0]) / step), 0, len(grid) - 1) * step
        if parameter.kind == "integer":
            return np.round(raw)
        return raw
