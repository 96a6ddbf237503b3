"""The `objectives:` section of a config: what one objective may say."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from jaxmerge.strict import Strict, read_section

SPLITS = ("search", "validation", "test")
ANSWERED = ("exact", "contains", "last_number", "rouge_l")
METRICS = (*ANSWERED, "brevity")
NOT_YET = {
    "caption": "kind 'caption' (images) is not available yet",
    "classify": "kind 'classify' (images) is not available yet",
    "lm_eval": "kind 'lm_eval' is not available yet; use kind generate or choice on the task's data as JSONL",
}

_FEW_SHOT = {"few_shot", "chat_template", "system"}
_GENERATION = {"prompt", "answer", "metric", "language", "stop", "max_new_tokens"} | _FEW_SHOT
# The keys that mean something to a kind; the others are common to all.
KEYS: dict[str, set[str]] = {
    "likelihood": {"text", "prompt", "answer"} | _FEW_SHOT,
    "entropy": {"text"},
    "choice": {"prompt", "answer", "choices", "normalize"} | _FEW_SHOT,
    "generate": _GENERATION,
    "python": _GENERATION,
}

Count = Annotated[int, Field(ge=1)]


class Data(Strict):
    """JSONL files, relative to the config's folder."""

    search: str | None = None
    validation: str | None = None
    test: str | None = None
    few_shot: str | None = None


class ObjectiveConfig(Strict):
    """One objective. Templates fill `{field}` from each line of the data."""

    name: Annotated[str, Field(min_length=1)]
    kind: str
    data: Data
    text: str | None = None
    prompt: str | None = None
    answer: str | None = None
    choices: str | list[str] | None = None
    normalize: Literal["none", "tokens", "characters"] = "none"
    metric: str | None = None
    language: str | None = None
    chat_template: bool = False
    system: str | None = None
    few_shot: Annotated[int, Field(ge=0)] = 0
    stop: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    max_new_tokens: Count = 64
    max_length: Annotated[int, Field(ge=2)] = 2048
    truncate: Literal["left"] | None = None
    limit: Count | None = None
    sample: Count | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    direction: Any = None

    @field_validator("direction", mode="before")
    @classmethod
    def _is_upwards(cls, value: Any) -> Any:
        if value is not None:
            raise ValueError("higher is better everywhere; remove it, and negate a metric of your own that should fall")
        return value

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind in NOT_YET:
            raise ValueError(NOT_YET[self.kind])
        if not any(getattr(self.data, split) for split in SPLITS):
            raise ValueError(f"data names no file; give at least one of {', '.join(SPLITS)}")
        if self.kind not in KEYS:
            return self  # a kind of the user's own
        idle = [
            key
            for key in sorted(set().union(*KEYS.values()) - KEYS[self.kind])
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True)
        ]
        if idle:
            raise ValueError(f"key '{idle[0]}' means nothing to kind '{self.kind}'; remove it")
        self._templates()
        if self.kind in ("generate", "python"):
            self._metric()
        if self.few_shot and self.data.few_shot is None:
            raise ValueError("few_shot needs examples; name their file in data.few_shot")
        if self.few_shot and self.answer is None:
            raise ValueError("few_shot needs the answer's template; give 'answer'")
        if self.system is not None and not self.chat_template:
            raise ValueError(
                "system goes with a chat template; set chat_template: true or put it into the prompt"
            )
        return self

    def _templates(self) -> None:
        if self.kind == "likelihood":
            if (self.text is None) == (self.prompt is None):
                raise ValueError("likelihood needs either 'text', or 'prompt' and 'answer'")
            if self.text is not None and (self.answer is not None or self.few_shot or self.chat_template):
                raise ValueError("'answer', 'few_shot' and 'chat_template' go with 'prompt', not with 'text'")
        elif self.kind == "entropy":
            if self.text is None:
                raise ValueError("entropy needs 'text', such as \"{text}\"")
        elif self.prompt is None:
            raise ValueError(f"{self.kind} needs 'prompt'")
        if self.kind in ("likelihood", "choice") and self.prompt is not None and self.answer is None:
            raise ValueError(f"{self.kind} needs 'answer'")
        if self.kind == "choice" and not self.choices:
            raise ValueError("choice needs 'choices', a field that holds a list, such as \"{choices}\"")

    def _metric(self) -> None:
        if self.metric is None:
            needed = (
                f"{', '.join(METRICS)} or module:function" if self.kind == "generate" else "module:function"
            )
            raise ValueError(f"{self.kind} needs 'metric': {needed}")
        if self.kind == "python" and self.metric in METRICS:
            raise ValueError(
                f"python needs a metric of your own, module:function; '{self.metric}' goes with generate"
            )
        if self.metric in ANSWERED and self.answer is None:
            raise ValueError(f"metric '{self.metric}' needs 'answer'")


class Objectives(Strict):
    """What stands under `objectives:`."""

    objectives: Annotated[list[ObjectiveConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = [objective.name for objective in self.objectives]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two objectives are named '{name}'; give each its own name")
        return self


def read_objectives(data: Any, where: str = "") -> list[ObjectiveConfig]:
    """The list that stands under `objectives:`. Raises InputError naming the key; where: the file it stands in."""
    return read_section(Objectives, {"objectives": data}, where).objectives
