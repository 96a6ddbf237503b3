"""mergekit's recipe as a strict schema. What a key means is said in docs and in the modules that use it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, NonNegativeInt, PositiveInt, model_validator

from jaxmerge.documents import Document, Keys
from jaxmerge.errors import InputError, joined
from jaxmerge.recipe.settings import Setting, parse_setting
from jaxmerge.strict import Strict

DTypeName = Literal["bfloat16", "float16", "float32", "float64"]


def _reference(value: Any) -> str:
    """`path[@revision][+lora[@revision]]`, also where it is written as mapping `{model: {path, revision}, lora}`."""
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, dict) and "model" in value and set(value) <= {"model", "lora", "override_architecture"}:
        # The architecture may be overridden freely: tensors are merged by their names.
        lora = value.get("lora")
        return _located(value["model"]) + (f"+{_located(lora)}" if lora is not None else "")
    raise ValueError("must be a reference: a folder or hub id, or {model: {path, revision}, lora}")


def _located(value: Any) -> str:
    if isinstance(value, str) and value.strip():
        return value
    if isinstance(value, dict) and isinstance(value.get("path"), str) and set(value) <= {"path", "revision"}:
        revision = value.get("revision")
        return value["path"] + (f"@{revision}" if revision is not None else "")
    raise ValueError("must be a reference: a folder or hub id, or {path, revision}")


def _range(value: Any) -> tuple[int, int]:
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(n) is int for n in value):
        start, stop = value
        if 0 <= start < stop:
            return start, stop
    raise ValueError(f"must be [first, end) with 0 <= first < end, not {value!r}")


def _tokenizer_source(value: Any) -> str:
    # Older recipes write `model:` before the reference.
    return _reference(value).removeprefix("model:")


def _dtype(value: Any) -> Any:
    return value.removeprefix("torch.") if isinstance(value, str) else value


# `parameters:` with nothing under it.
_NOTHING = BeforeValidator(lambda value: {} if value is None else value)
DType = Annotated[DTypeName, BeforeValidator(_dtype)]
Reference = Annotated[str, BeforeValidator(_reference)]
TokenizerSource = Annotated[str, BeforeValidator(_tokenizer_source)]
LayerRange = Annotated[tuple[int, int], BeforeValidator(_range)]
Parameters = Annotated[
    dict[str, Annotated[Setting, BeforeValidator(parse_setting)]], _NOTHING
]


class Input(Strict):
    """One model of `models`, or of a slice's `sources`."""

    model: Reference
    parameters: Parameters = Field(default_factory=dict)


class SliceInput(Input):
    layer_range: LayerRange


class Slice(Strict):
    """residual_weight: mergekit reads it and does nothing with it, and so do we."""

    sources: list[SliceInput] = Field(min_length=1)
    base_model: Reference | None = None
    residual_weight: float | None = None
    parameters: Parameters = Field(default_factory=dict)


def _exactly_one(names: tuple[str, ...], values: tuple[Any, ...]) -> None:
    given = [name for name, value in zip(names, values, strict=True) if value is not None]
    if len(given) != 1:
        raise ValueError(f"give exactly one of {', '.join(names)}; there are {', '.join(given) or 'none'}")


class Module(Strict):
    """What is merged of one component of a composite model, such as its vision tower."""

    models: list[Input] | None = Field(default=None, min_length=1)
    slices: list[Slice] | None = Field(default=None, min_length=1)
    parameters: Parameters = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> "Module":
        _exactly_one(("models", "slices"), (self.models, self.slices))
        return self


class TokenSource(Strict):
    """Where a token's embedding comes from: a model's own, a given token of a model, or zero."""

    kind: Literal["model", "model_token", "zero"]
    model: Reference | None = None
    token: str | None = None
    token_id: NonNegativeInt | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str) or (isinstance(value, dict) and "kind" not in value):
            return {"kind": "model", "model": value}
        return value

    @model_validator(mode="after")
    def _check(self) -> "TokenSource":
        if self.kind != "zero" and self.model is None:
            raise ValueError("the key 'model' is missing")
        if self.kind == "model_token":
            _exactly_one(("token", "token_id"), (self.token, self.token_id))
        return self


class Token(Strict):
    source: TokenSource | None = None
    force: bool = False


class Tokenizer(Strict):
    """source: union, base, or a reference."""

    source: TokenizerSource = "union"
    pad_to_multiple_of: PositiveInt | None = None
    tokens: Annotated[dict[str, Token], _NOTHING] = Field(default_factory=dict)


class Own(Strict):
    """Our own keys, which mergekit ignores. The seed draws the masks; the others, which a search writes, tell where the
    recipe comes from. kv_heads: to which number the models' key and value heads are repeated, `converters.kv_heads`.
    beside: where an absolute path also lies from the recipe's own folder."""

    seed: NonNegativeInt | None = None
    kv_heads: PositiveInt | None = None
    candidate: str | None = None
    scores: dict[str, Any] = Field(default_factory=dict)
    experts: list[str] = Field(default_factory=list)
    groups: list[str] = Field(default_factory=list)
    parameters: dict[str, Any] = Field(default_factory=dict)
    path: list[str] = Field(default_factory=list)
    pool: dict[str, int] = Field(default_factory=dict)
    scales: list[float] | None = None
    directions: dict[str, Any] = Field(default_factory=dict)
    sharing: dict[str, int] = Field(default_factory=dict)
    beside: dict[str, str] = Field(default_factory=dict)


class Recipe(Strict):
    """A whole recipe. The folder of its file is where relative paths are tried second."""

    merge_method: str
    base_model: Reference | None = None
    models: list[Input] | None = Field(default=None, min_length=1)
    slices: list[Slice] | None = Field(default=None, min_length=1)
    modules: dict[str, Module] | None = Field(default=None, min_length=1)
    parameters: Parameters = Field(default_factory=dict)
    dtype: DType | None = None
    out_dtype: DType | None = None
    tokenizer_source: TokenizerSource | None = None
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    name: str | None = None
    jaxmerge: Own = Own()

    @model_validator(mode="after")
    def _check(self) -> "Recipe":
        _exactly_one(("models", "slices", "modules"), (self.models, self.slices, self.modules))
        if self.tokenizer is not None and self.tokenizer_source is not None:
            raise ValueError("tokenizer and tokenizer_source exclude each other; keep tokenizer")
        return self

    @property
    def bodies(self) -> Mapping[str | None, tuple[Keys, "Recipe | Module"]]:
        """What is merged, with where it stands: each module by its name, or the whole recipe."""
        if self.modules is None:
            return {None: ((), self)}
        return {name: (("modules", name), module) for name, module in self.modules.items()}


Loaded = tuple[Recipe, Document]


def load_recipes(recipe: str | Path | dict[str, Any] | Sequence[dict[str, Any]]) -> tuple[Loaded, ...]:
    """The recipes of a file, a document each, or mappings as YAML would give them. Raises InputError naming file, line
    and key of all that is wrong."""
    if isinstance(recipe, str | Path):
        documents = Document.read_all(Path(recipe))
    else:
        documents = tuple(Document(Path("recipe"), data) for data in ([recipe] if isinstance(recipe, dict) else recipe))
    found: list[Loaded] = []
    mistakes: list[InputError] = []
    for document in documents:
        try:
            found.append((document.validate(Recipe), document))
        except InputError as error:
            mistakes.append(error)
    if mistakes:
        raise joined(mistakes)
    return tuple(found)
