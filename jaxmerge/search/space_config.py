"""The schema of `space:` in an evolve config: what is searched, for every kind of space."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from jaxmerge.converters.directions import HIGHEST_RANK
from jaxmerge.errors import InputError, unknown
from jaxmerge.operators.interface import Parameter
from jaxmerge.operators.registry import operator
from jaxmerge.spaces.groups import Granularity
from jaxmerge.strict import Strict, misfit

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]

# The keys of each kind of space; a joint one has those of a merge and of a path.
KEYS = {
    "parameter": ("operator", "granularity", "parameters"),
    "dataflow": ("repeats", "scales", "scale", "input", "max_hops", "included"),
    "low_rank": ("around", "directions", "rank", "reach", "granularity"),
}
KEYS["joint"] = KEYS["parameter"] + KEYS["dataflow"]


class Bounds(Strict):
    """A searched parameter: its bounds, and its value at the start (None: the middle)."""

    low: float = Field(allow_inf_nan=False)
    high: float = Field(allow_inf_nan=False)
    init: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"the lower bound {self.low:g} must be below the upper bound {self.high:g}")
        if self.init is not None and not self.low <= self.init <= self.high:
            raise ValueError(f"init {self.init:g} lies outside its bounds [{self.low:g}, {self.high:g}]")
        return self


def _setting(value: Any) -> Any:
    """`[low, high]` as the mapping it is short for."""
    number = (int, float)
    if isinstance(value, list):
        if len(value) != 2 or not all(isinstance(v, number) and not isinstance(v, bool) for v in value):
            raise ValueError(f"write [low, high], a number, or {{low, high, init}}, not {value!r}")
        return Bounds(low=value[0], high=value[1])
    if isinstance(value, dict):
        return Bounds.model_validate(value)
    if isinstance(value, bool | Bounds):
        return value
    if isinstance(value, number):
        return float(value)
    raise ValueError(f"write [low, high], a number, or {{low, high, init}}, not {value!r}")


Setting = Annotated[Bounds | float | bool, BeforeValidator(_setting)]


def _scale(value: Any) -> Any:
    """`[low, high]` of a scale, which starts at 1."""
    bounds = _setting(value)
    if not isinstance(bounds, Bounds) or bounds.init not in (None, 1):
        raise ValueError(f"write [low, high], not {value!r}; scales start at 1")
    if bounds.low <= 0 <= bounds.high:
        raise ValueError(f"[{bounds.low:g}, {bounds.high:g}] contains 0, which would wipe the text out; stay above it")
    if not bounds.low <= 1 <= bounds.high:
        raise ValueError(f"[{bounds.low:g}, {bounds.high:g}] must contain 1, where scales start")
    return bounds


class Included(Strict):
    """The probability with which a slot is on the path in the first generation: those of the input model's first
    repetition, and all others. The default is 2 sigma, and 0."""

    input: Share = 0.97725
    others: Share = 0.5


class Space(Strict):
    """What is searched. Each kind has keys of its own.

    joint: a merge and a path. dataflow: `repeats` of the pool's layers in order are the slots; see `spaces.dataflow`.
    low_rank: random directions `around` a model; None: what the stage before it found, or the base. See
    `converters.directions`.
    """

    kind: Literal["parameter", "dataflow", "joint", "low_rank"] = "parameter"
    operator: Name = "dare_ties"
    granularity: Any = "layer"
    parameters: dict[str, Setting] = Field(default_factory=dict)
    repeats: Count = 3
    scales: Literal["none", "hop", "pair", "network"] = "hop"
    scale: Annotated[Bounds, BeforeValidator(_scale)] = Bounds(low=0.5, high=1.5)
    input: Name | None = None
    max_hops: Annotated[int, Field(ge=2)] = 64
    included: Included = Included()
    around: Name | None = None
    directions: Count = 8
    rank: Annotated[int, Field(ge=1, le=HIGHEST_RANK)] = 4
    reach: Annotated[float, Field(gt=0, le=1)] = 0.05

    @field_validator("granularity")
    @classmethod
    def _granularity_is_known(cls, value: Any) -> Any:
        try:
            Granularity.parse(value)
        except InputError as error:
            raise ValueError(str(error).removeprefix("space.granularity: ")) from None
        return value

    @property
    def title(self) -> str:
        """What the search is called where people read it."""
        names = {"dataflow": "data flow", "joint": f"{self.operator} and data flow", "low_rank": "low-rank directions"}
        return names.get(self.kind, self.operator)

    @property
    def merges(self) -> bool:
        """Whether the models are merged by the operator."""
        return self.kind in ("parameter", "joint")

    @property
    def flows(self) -> bool:
        """Whether a path is searched."""
        return self.kind in ("dataflow", "joint")

    @model_validator(mode="after")
    def _keys_are_of_its_kind(self) -> Self:
        for kind, keys in KEYS.items():
            for key in keys:
                if key not in KEYS[self.kind] and key in self.model_fields_set:
                    raise misfit(f"belongs to space.kind: {kind}, this is {self.kind}; remove it", key)
        return self

    @model_serializer(mode="wrap")
    def _with_keys_of_its_kind(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in serialize(self).items() if key in ("kind", *KEYS[self.kind])}

    @model_validator(mode="after")
    def _parameters_fit_the_operator(self) -> Self:
        if not self.merges:
            return self
        try:
            chosen = operator(self.operator)
        except InputError as error:
            raise misfit(str(error), "operator") from None
        known = {parameter.name: parameter for parameter in chosen.parameters}
        for name, setting in self.parameters.items():
            if name not in known:
                raise misfit(str(unknown("parameter", name, known, chosen.name)), "parameters", name)
            if problem := _problem(known[name], setting):
                raise misfit(problem, "parameters", name)
        if not any(isinstance(setting, Bounds) for setting in self.parameters.values()):
            proposed = ", ".join(f"{p.name}: [{p.search[0]:g}, {p.search[1]:g}]" for p in known.values() if p.search)
            raise misfit(f"nothing is searched; give [low, high], such as {proposed}", "parameters")
        return self


def _problem(parameter: Parameter, setting: Bounds | float | bool) -> str | None:
    """What is wrong with a parameter's setting."""
    if parameter.kind == "flag" or isinstance(setting, bool):
        wanted = "true or false" if parameter.kind == "flag" else "a number or [low, high]"
        return None if parameter.kind == "flag" and isinstance(setting, bool) else f"must be {wanted}"
    if parameter.fixed and isinstance(setting, Bounds):
        return "cannot be searched; give one number"
    values = (setting.low, setting.high) if isinstance(setting, Bounds) else (setting,)
    low = float("-inf") if parameter.low is None else parameter.low
    high = float("inf") if parameter.high is None else parameter.high
    for value in values:
        if parameter.kind == "integer" and value != int(value):
            return f"must be whole numbers, not {value:g}"
        if not low <= value <= high:
            return f"{value:g} lies outside [{low:g}, {high:g}]"
    return None
