"""The schema of an evolve config.

Every key that will ever mean something is known; those whose feature is still to come are refused by name.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, field_validator, model_validator

from jaxmerge.converters.writer import parse_size
from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.objectives.schema import ObjectiveConfig
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import OPERATORS, operator
from jaxmerge.population.compressed import Compression
from jaxmerge.search.algorithms.registry import OPTIMIZERS
from jaxmerge.search.space_config import Count, Name, Space
from jaxmerge.strict import Strict, misfit

RANDOM_SEARCH = "random_search"
UNIFORM = "uniform"
BASE = "base"
# A joint search's merge among the models of its pool.
MERGED = "merged"

def _auto_or(minimum: int) -> BeforeValidator:
    def check(value: Any) -> Any:
        if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= minimum):
            return value
        raise ValueError(f"write auto or a whole number from {minimum} on, not {value!r}")

    return BeforeValidator(check)


def _size(size: str | int) -> str | int:
    try:
        parse_size(size)
    except InputError as error:
        raise ValueError(str(error)) from None
    return size


class Budget(Strict):
    """Where the search ends, besides its generations."""

    candidates: Count | None = None
    hours: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


class Evaluation(Strict):
    """How much of the search data a candidate is scored on. The keys besides `kind` belong to one kind, which has
    defaults for them.

    racing: everyone is scored on `first` examples, then on `block` more at a time; who has no chance left to be one of
    the best leaves, `keep` of a generation, or with 1 the best of the run. confidence: the probability that none was
    sent away who would have been, in each generation.
    irt: everyone is scored on `subset` examples, from which the score on all is predicted; the `keep` best of a
    generation are scored on all.
    """

    kind: Literal["full", "racing", "irt"] = "full"
    confidence: Annotated[float, Field(ge=0.5, lt=1)] | None = None
    block: Count | None = None
    first: Count | None = None
    keep: Count | None = None
    subset: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            raise ValueError(f"write {{kind: racing}}, not {data!r}")
        kind = data.get("kind", "full")
        return (EVALUATIONS.get(kind, {}) if isinstance(kind, str) else {}) | data

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> Self:
        for key in type(self).model_fields:
            if key != "kind" and key not in EVALUATIONS[self.kind] and getattr(self, key) is not None:
                raise misfit(f"means nothing to kind '{self.kind}'; remove it", key)
        return self


EVALUATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    "racing": {"confidence": 0.95, "block": 16, "first": 32, "keep": 1},
    "irt": {"subset": 48, "keep": 1},
}


class WarmStart(Strict):
    """Gradient steps before a search, on the log-likelihood of the reference answers. learning_rate: in widths of the
    bounds a step."""

    kind: Literal["gradient"] = "gradient"
    steps: Count = 30
    optimizer: Literal["adam", "adamw", "lion", "rmsprop", "sgd"] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.02


class Screening(Strict):
    """Candidates that are sent away before they are scored, by what the per-example Jacobian at the search's mean
    predicts. candidates: drawn in each generation, of which the best as predicted are the population. refresh: for how
    many generations a Jacobian serves."""

    kind: Literal["jacobian"] = "jacobian"
    candidates: Count = 1024
    refresh: Count = 1


class Search(Strict):
    """How the space is searched. generations: 100 where neither it nor a budget is given. pick: how the winner is
    taken from a front, for algorithms of several objectives; None: weights."""

    algorithm: Name = "auto"
    options: dict[str, Any] = Field(default_factory=dict)
    population: Annotated[Literal["auto"] | int, _auto_or(1)] = "auto"
    generations: Count | None = None
    budget: Budget = Budget()
    sigma: Annotated[float, Field(gt=0, le=1)] = 0.1667
    start: Name = "baseline"
    warm_start: WarmStart | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    baselines: list[Name] | None = None
    pick: Literal["weights", "knee"] | None = None
    evaluation: Evaluation = Evaluation()
    screening: Screening | None = None

    @field_validator("warm_start", "screening", mode="before")
    @classmethod
    def _of_a_kind(cls, value: Any) -> Any:
        """`gradient` or `jacobian` for one at its defaults."""
        return {"kind": value} if isinstance(value, str) else value

    @property
    def differentiates(self) -> bool:
        """Whether gradients are asked for."""
        return self.warm_start is not None or self.screening is not None or self.algorithm in OPTIMIZERS

    @property
    def last_generation(self) -> int | None:
        """How many generations there may be; None: only the budget counts."""
        if self.generations is not None:
            return self.generations
        return None if self.budget.candidates or self.budget.hours else 100


class Mesh(Strict):
    """pop: over how many parts of the devices candidates are divided; None: as many as there are. model: the devices of
    each part, over which a candidate's weights are divided."""

    pop: Count | None = None
    model: Count = 1


class Runtime(Strict):
    """Where and how it runs. bank: where the sources lie. compression: of task vectors, for the search's candidates.
    memory: of each device, where it is not to be asked. forward: whether each candidate is merged before it is scored,
    or all at once share the sources' weights."""

    mesh: Literal["auto"] | Mesh = "auto"
    bank: Literal["auto", "device", "sharded", "host"] = "auto"
    compression: Compression | None = None
    memory: str | Count | None = None
    chunk: Annotated[Literal["auto"] | int, _auto_or(1)] = "auto"
    forward: Literal["auto", "merged", "batched"] = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    cache: Literal["auto", "float32", "bfloat16", "float16"] = "auto"

    @field_validator("mesh", mode="before")
    @classmethod
    def _mesh(cls, mesh: Any) -> Any:
        if mesh == "auto":
            return mesh
        if not isinstance(mesh, dict):
            raise ValueError(f"write auto or {{pop: n, model: m}}, not {mesh!r}")
        return Mesh.model_validate(mesh)

    @field_validator("memory")
    @classmethod
    def _is_a_size(cls, size: str | int | None) -> str | int | None:
        return size if size is None else _size(size)


class Output(Strict):
    """The exported model. dtype: None is `runtime.dtype`."""

    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    max_shard_size: str | Count = "5GB"

    @field_validator("max_shard_size")
    @classmethod
    def _is_a_size(cls, size: str | int) -> str | int:
        return _size(size)


class Monitoring(Strict):
    """Where else a search's figures go. wandb: a project of Weights & Biases."""

    wandb: Name | None = None


class Origin(Strict):
    """What a run was made from, as its config.yaml records it. Fingerprints are hashes of content. format: of the run's
    folder; version: of jaxmerge. start: that of the recipe, or `search.start` itself where it is no path."""

    format: int
    version: str
    folder: str
    dimension: Count
    models: dict[str, dict[str, str | None]]
    data: dict[str, dict[str, str]]
    tokenizer: str
    start: str


def warm_start_of(search: str) -> str:
    """What the history calls the gradient steps before a search."""
    return f"{search}_warm_start"


def start_of(search: str) -> str:
    """What the history calls the candidate that a search sets out from, see `opening`."""
    return f"{search}_start"


# The name of a stage is also that of a folder.
StageName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class StageConfig(Strict):
    """A search before the main one; its result is a model of the later ones, under the stage's name.

    name: None: the kind of its space. search: the keys in which it differs from the config's own `search`."""

    name: StageName | None = None
    space: Space
    search: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.name or self.space.kind


class EvolveConfig(Strict):
    """A whole evolve config.

    name: of the search in the history; None: the kind of its space. stages: the searches before it; where there is no
    `space`, the last of them is the main one. earlier: the models that earlier stages made, as a run records it."""

    name: StageName | None = None
    models: dict[str, Name] = Field(min_length=1)
    base: Name | None = None
    host: Any = None
    tokenizer: Name = BASE
    space: Space
    objectives: list[ObjectiveConfig] = Field(min_length=1)
    search: Search = Search()
    runtime: Runtime = Runtime()
    output: Output = Output()
    report: Monitoring | None = None
    stages: list[StageConfig] = Field(default_factory=list)
    earlier: list[Name] = Field(default_factory=list)
    origin: Origin | None = None

    _folder: Path = PrivateAttr(default_factory=Path)
    _document: Document | None = PrivateAttr(None)

    @property
    def folder(self) -> Path:
        """Where the config lies: a user's own modules are looked for there."""
        return self._folder

    def running(self, **runtime: Any) -> Self:
        """The same config with other values of these keys of `runtime`."""
        changed = self.model_copy(update={"runtime": self.runtime.model_copy(update=runtime)})
        changed._folder = self.folder
        return changed

    @property
    def method(self) -> str:
        """The name of what merges candidates; directions are added up as task vectors are."""
        return "task_arithmetic" if self.space.kind == "low_rank" else self.space.operator

    @property
    def operator(self) -> Operator:
        return operator(self.method)

    @property
    def around(self) -> str:
        """The model that low-rank directions are searched around."""
        return self.space.around or (self.earlier[-1] if self.earlier else BASE)

    @property
    def stage(self) -> str:
        """What the history calls this search."""
        return self.name or self.space.kind

    @property
    def parents(self) -> tuple[str, ...]:
        """The models that no stage made."""
        return tuple(name for name in self.models if name not in self.earlier)

    @model_validator(mode="before")
    @classmethod
    def _the_last_stage_is_the_main_one(cls, data: Any) -> Any:
        stages = data.get("stages") if isinstance(data, dict) else None
        if not isinstance(stages, list) or not stages or "space" in data or not isinstance(stages[-1], dict):
            return data
        last = StageConfig.model_validate(stages[-1])
        search = data.get("search")
        main = {"name": last.label, "space": last.space, "stages": stages[:-1]}
        return data | main | {"search": {**(search if isinstance(search, dict) else {}), **last.search}}

    @model_validator(mode="after")
    def _stages_have_names_of_their_own(self) -> Self:
        names = [*(stage.label for stage in self.stages), self.stage]
        for place, name in enumerate(names):
            if name in names[:place]:
                raise misfit(f"two are named '{name}'; give each its own name", "stages")
            if name in {*self.parents, BASE, UNIFORM, RANDOM_SEARCH, *OPERATORS} or name.endswith(
                (warm_start_of(""), start_of(""))
            ):
                key = "stages" if self.stages else "name"
                raise misfit(f"'{name}' is also the name of a model or a baseline; name it otherwise", key)
        return self

    @field_validator("host")
    @classmethod
    def _not_yet(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("not available yet; remove the key")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        reserved = {BASE, UNIFORM, RANDOM_SEARCH, *OPERATORS} & set(self.models)
        if reserved:
            raise misfit("is the name of a baseline; name the model otherwise", "models", min(reserved))
        names = [objective.name for objective in self.objectives]
        for name in names:
            if names.count(name) > 1:
                raise misfit(f"two are named '{name}'; give each its own name", "objectives")
        if self.space.merges:
            self._models_fit_the_operator()
        if self.space.flows:
            self._models_fit_the_flow()
        if self.space.kind == "low_rank":
            self._directions_have_a_center()
        return self

    def _models_fit_the_operator(self) -> None:
        chosen = self.operator
        if chosen.needs_base and self.base is None:
            raise ValueError(f"the key 'base' is missing: {chosen.name} needs a base model")
        sources = len(self.models) + chosen.base_is_source
        if sources < chosen.min_sources or (chosen.max_sources is not None and sources > chosen.max_sources):
            raise misfit(f"{chosen.name} cannot merge {len(self.models)}; change them or the operator", "models")

    def _directions_have_a_center(self) -> None:
        known = [*self.models, *(stage.label for stage in self.stages), *([BASE] if self.base is not None else [])]
        if self.space.around is not None and self.space.around not in known:
            raise misfit(f"there is no model '{self.space.around}'; name one of {', '.join(known)}", "space", "around")
        if self.space.around is None and self.base is None and not self.stages and not self.earlier:
            raise misfit(f"there is no base; name one of {', '.join(known)}", "space", "around")

    def _models_fit_the_flow(self) -> None:
        pool = [*self.models, *(stage.label for stage in self.stages)]
        if self.space.kind == "joint":
            if MERGED in pool:
                key = "models" if MERGED in self.models else "stages"
                raise misfit(f"'{MERGED}' is the name of a joint search's merge; name it otherwise", key)
            pool.append(MERGED)
        if self.space.input is not None and self.space.input not in pool:
            known = ", ".join(pool)
            raise misfit(f"there is no model '{self.space.input}'; name one of {known}", "space", "input")
        if self.space.scales == "pair" and len(pool) == 1:
            raise misfit("pair needs at least two models; use hop, network or none", "space", "scales")

    @property
    def input(self) -> str:
        """The model whose embeddings, head, first and last layer and tokenizer a data-flow path has."""
        return self.space.input or (MERGED if self.space.kind == "joint" else next(iter(self.models)))
