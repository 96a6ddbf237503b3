"""The resolved plan of a merge: models, output tensors, config, tokenizer.

Building it reads configs and headers only. All that can be wrong with a recipe or with models that do not fit each
other is found here, before time is spent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.architectures.registry import ARCHITECTURES
from jaxmerge.architectures.windows import FULL
from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.config_changes import changed_config
from jaxmerge.converters.reference import Location
from jaxmerge.converters.reference import resolve as resolve_reference
from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import operator as find_operator
from jaxmerge.plugins import importable
from jaxmerge.recipe.alignment import groups, require_whole
from jaxmerge.recipe.dtypes import is_float, named_dtype
from jaxmerge.recipe.layers import DEPTH_KEYS, find_layers
from jaxmerge.recipe.parameters import check_settings
from jaxmerge.recipe.renaming import is_here
from jaxmerge.recipe.schema import Recipe
from jaxmerge.recipe.slices import Slice, output_slices, references
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

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    def itemsize(self, piece: Piece) -> int:
        """Bytes of an element of an input as it is held in memory."""
        own = self.models[piece.model].tensors[piece.name].dtype
        return max(own.itemsize, (self.dtype or own).itemsize)


def make_plan(
    recipe: Recipe, document: Document, *, seed: int | None = None, made: Mapping[str, Checkpoint] | None = None
) -> Plan:
    """made: other merges, which the recipe may name in place of models.

    Raises InputError for what is wrong with the recipe, CheckpointError for models that do not fit each other."""
    operator = _operator(recipe, document)
    check_settings(recipe, document, operator)
    made = made or {}
    index, models, names = _open_models(recipe, document, made)
    for model in models:
        require_whole(model)
    layers = [find_layers(model) for model in models]
    parts = output_slices(recipe, document, operator, index, layers)
    like = index[recipe.base_model] if recipe.base_model is not None else parts[0].inputs[0].model
    vocabulary = plan_vocabulary(
        recipe,
        document,
        models,
        None if recipe.base_model is None else index[recipe.base_model],
        lambda reference: made[reference].location if reference in made else _located(reference, recipe, document),
    )
    chat_template = _chat_template(recipe, document, models)
    planner = TensorPlanner(recipe, document, operator, models, vocabulary)
    planned = (planner.tensor(group) for group in groups(parts, models, layers, like))
    tensors = tuple(tensor for tensor in planned if tensor is not None)
    own_seed = recipe.jaxmerge.seed if seed is None else seed
    return Plan(
        recipe,
        document,
        operator,
        models,
        names,
        like,
        _config(models, like, parts, tensors, vocabulary),
        named_dtype(recipe.dtype),
        tensors,
        own_seed or 0,
        vocabulary,
        chat_template,
    )


def _chat_template(recipe: Recipe, document: Document, models: Sequence[Checkpoint]) -> str | None:
    if recipe.chat_template is None:
        return None
    try:
        return choose_chat_template(recipe.chat_template, [model.folder for model in models])
    except InputError as error:
        raise document.error(("chat_template",), str(error)) from None


def _operator(recipe: Recipe, document: Document) -> Operator:
    try:
        with importable(Path(), document.file.parent):
            return find_operator(recipe.merge_method)
    except InputError as error:
        raise document.error(("merge_method",), str(error)) from None


def _open_models(
    recipe: Recipe, document: Document, made: Mapping[str, Checkpoint]
) -> tuple[dict[str, int], tuple[Checkpoint, ...], tuple[str, ...]]:
    """Every model once: two references to the same folder are the same model."""
    index: dict[str, int] = {}
    opened: dict[Location, tuple[int, Checkpoint, str]] = {}
    for reference, keys in references(recipe).items():
        model = made.get(reference)
        if model is None:
            try:
                location = _located(reference, recipe, document)
            except InputError as error:
                raise document.error(keys, str(error)) from error
        else:
            location = model.location
        key = location.resolve()
        if key not in opened:
            opened[key] = (len(opened), model or open_checkpoint(location), reference)
        index[reference] = opened[key][0]
    found = list(opened.values())
    return index, tuple(model for _, model, _ in found), tuple(name for _, _, name in found)


def _located(reference: str, recipe: Recipe, document: Document) -> Location:
    home, beside = document.file.parent, recipe.jaxmerge.beside.get(reference)
    if beside is not None and not is_here(reference, Path()) and is_here(beside, home):
        return resolve_reference(beside, relative_to=(home,))  # the recipe was moved, and the model with it
    return resolve_reference(reference, relative_to=(Path(), document.file.parent))


def _config(
    models: Sequence[Checkpoint],
    like: int,
    parts: Sequence[Slice],
    tensors: Sequence[TensorPlan],
    vocabulary: VocabularyPlan | None,
) -> dict[str, Any]:
    """The config.json of `like` with depth, lists of a value a layer and dtype as the output has them."""
    source = models[like].config
    floats = {tensor.dtype for tensor in tensors if is_float(tensor.dtype)}
    dtype = max(floats, key=lambda d: sum(t.nbytes for t in tensors if t.dtype == d)) if floats else None
    if vocabulary is not None:
        source = changed_config(source, vocab_size=vocabulary.size) | dict(vocabulary.special)
    if all(part.depth is None for part in parts):
        return changed_config(source, dtype=dtype)
    layers = [_layer_source(part, like) + i for part in parts for i in range(part.depth or 0)]
    # A layer of a deeper model than `like` takes the last value of its lists.
    last = int(source.get("num_hidden_layers", len(layers))) - 1
    changed = changed_config(source, layers=[min(layer, last) for layer in layers], dtype=dtype)
    for key in DEPTH_KEYS:
        if key in source:
            changed[key] = len(layers)
    if kinds := _layer_types(models, like, parts):
        changed["layer_types"] = kinds
    return changed


def _layer_types(models: Sequence[Checkpoint], like: int, parts: Sequence[Slice]) -> list[str]:
    """The kind of attention of each output layer, as it was in its own model: by the number that the layer has now,
    another might have the window. Empty where `like` has no windows."""
    if _kinds(models[like]) is None:
        return []
    found: list[str] = []
    for part in parts:
        own = next((i for i in part.inputs if i.model == like), part.inputs[0])
        depth = part.depth or 0
        kinds = _kinds(models[own.model])
        found += [FULL] * depth if kinds is None else kinds[own.first : own.first + depth]
    return found


def _kinds(model: Checkpoint) -> list[str] | None:
    architecture = ARCHITECTURES.get(model.config.get("model_type", ""))
    if architecture is None or architecture.layer_types is None:
        return None
    try:
        return architecture.layer_types(model.config)
    except InputError:
        return None  # merged by its tensors' names, see `require_whole`


def _layer_source(part: Slice, like: int) -> int:
    """The first layer of `like` in a slice, or of the slice's first input where `like` is not in it."""
    return next((i.first for i in part.inputs if i.model == like), part.inputs[0].first)
