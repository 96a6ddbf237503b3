"""What a mixture of experts is made of, checked by headers before a weight is read."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.table import LAYERS
from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import CONFIG, Checkpoint
from jaxmerge.converters.fit import require_fit
from jaxmerge.converters.model import layout_of
from jaxmerge.converters.reference import resolve
from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.merging.experts.family import FAMILIES, MLP, SHARED, SHARED_ROUTER, Family
from jaxmerge.merging.experts.recipe import BY_PROMPTS, Expert, ExpertsRecipe, load_experts_recipe
from jaxmerge.recipe.dtypes import named_dtype
from jaxmerge.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Source:
    """A tensor of the output that comes from a model. noise: standard deviation of what is added to it. scale: what it
    is multiplied by then."""

    model: Checkpoint
    name: str
    noise: float = 0.0
    scale: float = 1.0


@dataclass(frozen=True)
class Router:
    """A tensor of the output that has a row for each of the plan's `experts` from `first` up to `end`."""

    layer: int
    first: int
    end: int


@dataclass(frozen=True)
class Plan:
    """experts: the recipe's, shared ones last. models: all that are named, by reference, the base first. config: the
    output's config.json. tensors: its tensors in order, with their shapes."""

    document: Document
    recipe: ExpertsRecipe
    experts: tuple[Expert, ...]
    models: dict[str, Checkpoint]
    dtype: np.dtype
    config: dict[str, Any]
    tensors: dict[str, tuple[tuple[int, ...], Source | Router]]

    @property
    def base(self) -> Checkpoint:
        return self.models[self.recipe.base_model]


def plan_mixture(file: Path) -> Plan:
    """Raises InputError for what is wrong with the recipe or does not go together, CheckpointError for models that are
    broken."""
    recipe, document = load_experts_recipe(file)
    experts = (*recipe.experts, *recipe.shared)
    references = dict.fromkeys((recipe.base_model, *(expert.source_model for expert in experts)))
    models = {ref: open_checkpoint(resolve(ref, relative_to=[Path(), file.parent])) for ref in references}
    base = models[recipe.base_model]
    family = _family(recipe, document, base)
    sizes = {reference: _sizes(model, family) for reference, model in models.items()}
    for kind in (recipe.experts, recipe.shared):
        for expert in kind:
            _require_alike(expert.source_model, kind[0].source_model, recipe.base_model, models, sizes)
    if recipe.gate_mode in BY_PROMPTS:
        Tokenizer.open(base.folder)
    widths = [sizes[kind[0].source_model].intermediate_size for kind in (recipe.experts, recipe.shared) if kind]
    if family.model_type == "qwen3_moe" and len(set(sizes[recipe.base_model].windows)) > 1:
        raise InputError(
            f"{base.folder / CONFIG}: some layers have a sliding window and some have none, which "
            f"{family.architecture} cannot have"
        )
    config = family.config(base.config, sizes[recipe.base_model], len(recipe.experts), recipe.experts_per_token, widths)
    dtype = named_dtype(recipe.dtype) or base.info(f"model.layers.0.mlp.{MLP[0]}.weight").dtype
    config |= {key: dtype.name for key in ("dtype", "torch_dtype") if key in config}
    return Plan(document, recipe, experts, models, dtype, config, _tensors(recipe, family, models))


def _family(recipe: ExpertsRecipe, document: Document, base: Checkpoint) -> Family:
    kind = base.config.get("model_type")
    fitting = (name for name, family in FAMILIES.items() if kind in family.sources)
    name: str | None = recipe.architecture or next(fitting, None)
    if name is None or kind not in FAMILIES[name].sources:
        known = FAMILIES.values() if name is None else [FAMILIES[name]]
        sources = ", ".join(source for family in known for source in family.sources)
        key = "base_model" if name is None else "architecture"
        raise document.error((key,), f"{recipe.base_model} is of type {kind!r}; experts can be {sources}")
    family = FAMILIES[name]
    if family.shared and len(recipe.shared) != 1:
        raise document.error(("shared_experts",), f"{family.architecture} has exactly one; give one")
    if recipe.shared and not family.shared:
        raise document.error(("shared_experts",), f"{family.architecture} has none; leave them out")
    return family


def _sizes(model: Checkpoint, family: Family) -> DecoderConfig:
    """Of a model whose tensors have a place in the mixture."""
    kind = model.config.get("model_type")
    if kind not in family.sources:
        raise InputError(
            f"{model.folder / CONFIG}: 'model_type' is {kind!r}; experts of {family.architecture} can be "
            f"{', '.join(family.sources)}"
        )
    sizes, table = layout_of(model)
    require_fit(model, table)
    if sizes.mlp_bias or sizes.output_bias or (sizes.qkv_bias and not family.shared):
        raise InputError(f"{model.folder / CONFIG}: has biases, for which {family.architecture} has no place")
    return sizes


def _require_alike(
    expert: str, first: str, base: str, models: Mapping[str, Checkpoint], sizes: Mapping[str, DecoderConfig]
) -> None:
    for field, key, other in (
        ("num_layers", "num_hidden_layers", base),
        ("hidden_size", "hidden_size", base),
        ("activation", "hidden_act", base),
        ("intermediate_size", "intermediate_size", first),
    ):
        own, theirs = getattr(sizes[expert], field), getattr(sizes[other], field)
        if own != theirs:
            file = models[expert].folder / CONFIG
            raise InputError(f"{file}: '{key}' is {own!r}, but {theirs!r} in {other}; experts must be alike")


def _tensors(
    recipe: ExpertsRecipe, family: Family, models: Mapping[str, Checkpoint]
) -> dict[str, tuple[tuple[int, ...], Source | Router]]:
    base = models[recipe.base_model]
    sizes, table = layout_of(base)
    found: dict[str, tuple[tuple[int, ...], Source | Router]] = {}

    def put(name: str, source: Source) -> None:
        found[name] = source.model.info(source.name).shape, source

    def put_expert(prefix: str, names: Mapping[str, str], layer: int, expert: Expert, place: int) -> None:
        for matrix in MLP:
            model, own = models[expert.source_model], f"model.layers.{layer}.mlp.{matrix}.weight"
            scale = expert.residual_scale if matrix == "down_proj" and expert.residual_scale is not None else 1.0
            put(prefix + names[matrix].format(expert=place), Source(model, own, expert.noise_scale or 0.0, scale))

    inside = [p for p in table if p.path.startswith(LAYERS) and ".mlp." not in p.path]
    outside = [p.hf for p in table if not p.path.startswith(LAYERS)]
    # The embedding stands before the layers.
    put(outside[0], Source(base, outside[0]))
    for layer in range(sizes.num_layers):
        prefix = f"model.layers.{layer}."
        for parameter in inside:
            name = parameter.hf.format(layer=layer)
            put(name, Source(base, name))
        count = len(recipe.experts)
        found[prefix + family.router] = (count, sizes.hidden_size), Router(layer, 0, count)
        for place, expert in enumerate(recipe.experts):
            put_expert(prefix, family.experts, layer, expert, place)
        for place, expert in enumerate(recipe.shared):
            router = Router(layer, count + place, count + place + 1)
            found[prefix + SHARED_ROUTER] = (1, sizes.hidden_size), router
            put_expert(prefix, SHARED, layer, expert, place)
    for name in outside[1:]:
        put(name, Source(base, name))
    return found
