"""The resolved plan of a merge: models, output tensors, config, tokenizer.

Building it reads configs and headers only. All that can be wrong with a recipe or with models that do not fit each
other is found here, before time is spent.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.kv_heads import with_kv_heads
from jaxmerge.converters.reference import Location
from jaxmerge.documents import Document
from jaxmerge.errors import InputError, joined
from jaxmerge.operators.interface import Operator
from jaxmerge.recipe.alignment import Group, groups, require_whole
from jaxmerge.recipe.dtypes import named_dtype
from jaxmerge.recipe.layers import find_layers
from jaxmerge.recipe.location import located
from jaxmerge.recipe.mistakes import mistakes, recipe_operator
from jaxmerge.recipe.modules import only
from jaxmerge.recipe.output_config import output_config
from jaxmerge.recipe.schema import Recipe
from jaxmerge.recipe.slices import Input, Slice, output_slices, range_mistakes, references
from jaxmerge.recipe.tensors import Piece, TensorPlan, TensorPlanner
from jaxmerge.recipe.vocabulary import VocabularyPlan, plan_vocabulary
from jaxmerge.tokens.chat_template import choose_chat_template


@dataclass(frozen=True)
class Plan:
    """models, references: the checkpoints and what the recipe calls them. like: the one whose companions the output
    gets. config: the output's config.json. dtype: what inputs are cast to when they are read, None for their own.
    tensors: in the order of the output. seed: of random masks. vocabulary: None where the tokenizer is that of `like`.
    chat_template: None where the tokenizer's own stays.
    """

    recipe: Recipe
    document: Document
    operator: Operator
    models: tuple[Checkpoint, ...]
    references: tuple[str, ...]
    like: int
    config: dict[str, Any]
    dtype: np.dtype | None
    tensors: tuple[TensorPlan, ...]
    seed: int
    vocabulary: VocabularyPlan | None
    chat_template: str | None
    allow_pickle: bool = False

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    def itemsize(self, piece: Piece) -> int:
        """Bytes of an element of an input as it is held in memory."""
        own = self.models[piece.model].tensors[piece.name].dtype
        return max(own.itemsize, (self.dtype or own).itemsize)


def make_plan(
    recipe: Recipe,
    document: Document,
    *,
    seed: int | None = None,
    made: Mapping[str, Checkpoint] | None = None,
    allow_pickle: bool = False,
) -> Plan:
    """made: other merges, which the recipe may name in place of models. allow_pickle: see `open_checkpoint`.

    Raises InputError for what is wrong with the recipe, CheckpointError for models that do not fit each other."""
    made = made or {}
    if wrong := mistakes(recipe, document, made):
        raise joined(wrong)
    operator = recipe_operator(recipe, document)
    index, models, names = _open_models(recipe, document, made, allow_pickle)
    for model in models:
        require_whole(model)
    parts = {name: output_slices(recipe, name, index) for name in recipe.bodies}
    base = None if recipe.base_model is None else index[recipe.base_model]
    like = next(iter(parts.values()))[0].inputs[0].model if base is None else base
    aligned = _aligned(recipe, document, models, index, parts, like)
    vocabulary = plan_vocabulary(
        recipe,
        document,
        models,
        base,
        lambda reference: made[reference].location if reference in made else located(reference, recipe, document),
    )
    chat_template = _chat_template(recipe, document, models)
    planner = TensorPlanner(recipe, document, operator, models, vocabulary)
    planned = (planner.tensor(group) for group in aligned)
    tensors = tuple(tensor for tensor in planned if tensor is not None)
    own_seed = recipe.jaxmerge.seed if seed is None else seed
    return Plan(
        recipe,
        document,
        operator,
        models,
        names,
        like,
        output_config(models, like, parts, tensors, vocabulary),
        named_dtype(recipe.dtype),
        tensors,
        own_seed or 0,
        vocabulary,
        chat_template,
        allow_pickle,
    )


def _aligned(
    recipe: Recipe,
    document: Document,
    models: Sequence[Checkpoint],
    index: Mapping[str, int],
    parts: Mapping[str | None, Sequence[Slice]],
    like: int,
) -> list[Group]:
    """The output's tensors, each with those of the models that it is made of.

    Raises InputError for layers that a model lacks, and for modules that do not speak of a whole model."""
    found: list[Group] = []
    wrong: list[InputError] = []
    names = [name for name in parts if name is not None]
    for name, own in parts.items():
        views = [model if name is None else only(model, name, names) for model in models]
        if not any(views[part.model].tensors for piece in own for part in piece.inputs):
            first = sorted({tensor.split(".")[0] for tensor in models[like].tensors})
            what = f"no tensor belongs to it; their names begin with {', '.join(first)}"
            wrong.append(document.error(recipe.bodies[name][0], what))
            continue
        layers = [find_layers(view) for view in views]
        wrong += range_mistakes(recipe, name, document, index, layers)
        if not wrong:
            found += groups(own, views, layers, like)
    if wrong:
        raise joined(wrong)
    if names:
        found += _of_no_module(recipe, document, models[like], names, like)
    return found


def _of_no_module(
    recipe: Recipe, document: Document, model: Checkpoint, names: Sequence[str], like: int
) -> Iterator[Group]:
    """What the recipe's modules leave of the base."""
    for name in only(model, None, names).tensors:
        if recipe.base_model is None:
            what = f"'{name}' belongs to none of them; add its module, or a base_model that it is copied from"
            raise document.error(("modules",), what)
        kept = Slice((Input(like, 0, {}, ("base_model",)),), like, 0, None, {}, ("base_model",))
        yield Group(name, kept, (name,), Fraction(0), outside=True, kept=True)


def _chat_template(recipe: Recipe, document: Document, models: Sequence[Checkpoint]) -> str | None:
    if recipe.chat_template is None:
        return None
    try:
        return choose_chat_template(recipe.chat_template, [model.folder for model in models])
    except InputError as error:
        raise document.error(("chat_template",), str(error)) from None


def _open_models(
    recipe: Recipe, document: Document, made: Mapping[str, Checkpoint], allow_pickle: bool
) -> tuple[dict[str, int], tuple[Checkpoint, ...], tuple[str, ...]]:
    """Every model once: two references to the same folder are the same model."""
    index: dict[str, int] = {}
    opened: dict[Location, tuple[int, Checkpoint, str]] = {}
    for reference, keys in references(recipe).items():
        model = made.get(reference)
        if model is None:
            try:
                location = located(reference, recipe, document)
            except InputError as error:
                raise document.error(keys, str(error)) from error
        else:
            location = model.location
        key = location.resolve()
        if key not in opened:
            source = model or open_checkpoint(location, allow_pickle=allow_pickle)
            opened[key] = (len(opened), _with_heads(source, recipe, document), reference)
        index[reference] = opened[key][0]
    found = list(opened.values())
    return index, tuple(model for _, model, _ in found), tuple(name for _, _, name in found)


def _with_heads(model: Checkpoint, recipe: Recipe, document: Document) -> Checkpoint:
    if recipe.jaxmerge.kv_heads is None:
        return model
    try:
        return with_kv_heads(model, recipe.jaxmerge.kv_heads)
    except InputError as error:
        raise document.error(("jaxmerge", "kv_heads"), str(error)) from error
