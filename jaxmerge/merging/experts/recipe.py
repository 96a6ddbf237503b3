"""mergekit-moe's recipe as a strict schema."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt

from jaxmerge.documents import Document
from jaxmerge.errors import InputError, joined
from jaxmerge.recipe.schema import DType, Reference
from jaxmerge.strict import Strict

BY_PROMPTS = ("hidden", "cheap_embed")


class Expert(Strict):
    """source_model: whose MLPs. residual_scale: of what it adds to the stream. noise_scale: standard deviation of
    normal noise on its weights."""

    source_model: Reference
    positive_prompts: list[str] | None = None
    negative_prompts: list[str] | None = None
    residual_scale: float | None = None
    noise_scale: float | None = Field(default=None, ge=0)

    @property
    def prompts(self) -> tuple[list[str], list[str]]:
        return self.positive_prompts or [], self.negative_prompts or []


class ExpertsRecipe(Strict):
    """base_model: whose attention, norms, embeddings and tokenizer. gate_mode: where the routers come from."""

    base_model: Reference
    gate_mode: Literal["hidden", "cheap_embed", "random", "zero"] = "hidden"
    experts: list[Expert] = Field(min_length=2)
    shared_experts: list[Expert] | None = None
    dtype: DType | None = None
    experts_per_token: PositiveInt = 2
    architecture: Literal["mixtral", "qwen", "qwen3"] | None = None

    @property
    def shared(self) -> list[Expert]:
        return self.shared_experts or []


def load_experts_recipe(file: Path) -> tuple[ExpertsRecipe, Document]:
    """Raises InputError, all mistakes of one kind at once, a line each."""
    document = Document.read(file)
    recipe = document.validate(ExpertsRecipe)
    mistakes: list[InputError] = []
    if recipe.experts_per_token > len(recipe.experts):
        mistakes.append(
            document.error(
                ("experts_per_token",), f"is {recipe.experts_per_token}; there are {len(recipe.experts)} experts"
            )
        )
    if recipe.gate_mode in BY_PROMPTS:
        for key, experts in (("experts", recipe.experts), ("shared_experts", recipe.shared)):
            for place, expert in enumerate(experts):
                if not any(prompt.strip() for prompt in expert.prompts[0]):
                    mistakes.append(
                        document.error(
                            (key, place), f"gate_mode {recipe.gate_mode} needs positive_prompts; give it at least one"
                        )
                    )
    if mistakes:
        raise joined(mistakes)
    return recipe, document
