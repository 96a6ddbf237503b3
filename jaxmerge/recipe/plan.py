"""The resolved plan of a merge: every output tensor with its inputs, parameters, shape and dtypes.

Building it reads configs and headers only. All that can be wrong with a recipe or with models that do not fit each
other is found here, before time is spent.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.config_changes import changed_config
from jaxmerge.converters.reference import resolve as resolve_reference
from jaxmerge.documents import Document
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.operators.interface import Operator
from jaxmerge.operators.registry import operator as find_operator
from jaxmerge.recipe.alignment import Group, groups, require_whole
from jaxmerge.recipe.layers import DEPTH_KEYS, find_layers, is_embedding
from jaxmerge.recipe.parameters import check_settings, resolve
from jaxmerge.recipe.schema import Recipe
from jaxmerge.recipe.slices import Slice, output_slices, references

FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Piece:
    """A tensor of one of the plan's models. model: its index."""

    model: int
    name: str


@dataclass(frozen=True)
class TensorPlan:
    """One output tensor.

    base: what the operator gets as base; sources: what it merges. params: float64, `[K]` for one per source, else
    scalars. dtype: of the output. copied: the first source is the result as it is; further sources must equal it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    base: Piece | None
    sources: tuple[Piece, ...]
    params: Mapping[str, np.ndarray]
    copied: bool = False

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def pieces(self) -> tuple[Piece, ...]:
        return self.sources if self.base is None else (self.base, *self.sources)


@dataclass(frozen=True)
class Plan:
    """models, references: the checkpoints and what the recipe calls them. like: the one whose companions the output
    gets. config: the output's config.json. dtype: what inputs are cast to when they are read, None for their own.
    tensors: in the order of the output. seed: of random masks.
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

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    def itemsize(self, piece: Piece) -> int:
        """Bytes of an element of an input as it is held in memory."""
        own = self.models[piece.model].tensors[piece.name].dtype
        return max(own.itemsize, (self.dtype or own).itemsize)


def make_plan(recipe: Recipe, document: Document, *, seed: int | None = None) -> Plan:
    """Raises InputError for what is wrong with the recipe, CheckpointError for models that do not fit each other."""
    operator = _operator(recipe, document)
    check_settings(recipe, document, operator)
    index, models, names = _open_models(recipe, document)
    for model in models:
        require_whole(model)
    layers = [find_layers(model) for model in models]
    parts = output_slices(recipe, document, operator, index, layers)
    like = index[recipe.base_model] if recipe.base_model is not None else parts[0].inputs[0].model
    dtype, out_dtype = named_dtype(recipe.dtype), named_dtype(recipe.out_dtype)
    tensors = []
    for group in groups(parts, models, layers, like):
        tensors.append(_tensor(group, recipe, document, operator, models, dtype, out_dtype))
    own_seed = recipe.jaxmerge.seed if seed is None else seed
    return Plan(
        recipe,
        document,
        operator,
        models,
        names,
        like,
        _config(models, like, parts, tensors),
        dtype,
        tuple(tensors),
        own_seed or 0,
    )


def named_dtype(name: str | None) -> np.dtype | None:
    if name is None:
        return None
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def promoted(dtypes: Sequence[np.dtype]) -> np.dtype:
    """The smallest dtype that holds all: float32 for bfloat16 with float16."""
    result = dtypes[0]
    for dtype in dtypes[1:]:
        narrow = {result.itemsize, dtype.itemsize} == {2} and result != dtype
        result = FLOAT32 if narrow else np.promote_types(result, dtype)
    return result


def is_float(dtype: np.dtype) -> bool:
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


def _operator(recipe: Recipe, document: Document) -> Operator:
    try:
        return find_operator(recipe.merge_method)
    except InputError as error:
        raise document.error(("merge_method",), str(error)) from None


def _open_models(recipe: Recipe, document: Document) -> tuple[dict[str, int], tuple[Checkpoint, ...], tuple[str, ...]]:
    """Every folder once: two references to the same folder are the same model."""
    index: dict[str, int] = {}
    opened: dict[Path, tuple[int, Checkpoint, str]] = {}
    for reference in references(recipe):
        folder = resolve_reference(reference, relative_to=(Path(), document.file.parent))
        key = folder.resolve()
        if key not in opened:
            opened[key] = (len(opened), Checkpoint.open(folder), reference)
        index[reference] = opened[key][0]
    found = list(opened.values())
    return index, tuple(model for _, model, _ in found), tuple(name for _, _, name in found)


def _tensor(
    group: Group,
    recipe: Recipe,
    document: Document,
    operator: Operator,
    models: Sequence[Checkpoint],
    dtype: np.dtype | None,
    out_dtype: np.dtype | None,
) -> TensorPlan:
    part = group.part
    pieces = {i: Piece(i.model, name) for i, name in zip(part.inputs, group.names, strict=True) if name is not None}
    infos = [models[piece.model].info(piece.name) for piece in pieces.values()]
    _require_one_shape(group, list(pieces.values()), models)
    shape = infos[0].shape
    read = promoted([info.dtype for info in infos])
    target = out_dtype or dtype or read
    if not all(is_float(info.dtype) for info in infos):
        # Counters and tables of indices are not averaged.
        return TensorPlan(group.name, shape, read, None, tuple(pieces.values()), {}, copied=True)
    missing = [i for i in part.inputs if i not in pieces]
    if missing:
        if operator.copies_singletons and len(pieces) == 1:
            return TensorPlan(group.name, shape, target, None, tuple(pieces.values()), {}, copied=True)
        lacking = models[missing[0].model].folder
        raise CheckpointError(
            f"{lacking}: tensor '{group.name}' is missing, {infos[0].file.parent} has it; "
            "merge models of one architecture"
        )
    base, sources = part.split(operator)
    params = resolve(operator, group.name, group.place, sources, part, recipe, document)
    return TensorPlan(
        group.name, shape, target, None if base is None else pieces[base], tuple(pieces[i] for i in sources), params
    )


def _require_one_shape(group: Group, pieces: Sequence[Piece], models: Sequence[Checkpoint]) -> None:
    first = models[pieces[0].model].info(pieces[0].name)
    for piece in pieces[1:]:
        info = models[piece.model].info(piece.name)
        if info.shape == first.shape:
            continue
        if (is_embedding(group.name) or "head" in group.name) and info.shape[1:] == first.shape[1:]:
            remedy = "their vocabularies differ; set tokenizer: {source: union} or {source: base}"
        else:
            remedy = "merge models of one architecture"
        raise CheckpointError(
            f"{models[piece.model].folder}: tensor '{piece.name}' is {list(info.shape)} but "
            f"{list(first.shape)} in {models[pieces[0].model].folder}; {remedy}"
        )


def _config(
    models: Sequence[Checkpoint], like: int, parts: Sequence[Slice], tensors: Sequence[TensorPlan]
) -> dict[str, Any]:
    """The config.json of `like` with depth, lists of a value a layer and dtype as the output has them."""
    source = models[like].config
    floats = {tensor.dtype for tensor in tensors if is_float(tensor.dtype)}
    dtype = max(floats, key=lambda d: sum(t.nbytes for t in tensors if t.dtype == d)) if floats else None
    if all(part.depth is None for part in parts):
        return changed_config(source, dtype=dtype)
    taken = [_layer_source(part, like) for part in parts]
    layers = [first + i for part, first in zip(parts, taken, strict=True) for i in range(part.depth or 0)]
    changed = changed_config(source, layers=layers, dtype=dtype)
    for key in DEPTH_KEYS:
        if key in source:
            changed[key] = len(layers)
    return changed


def _layer_source(part: Slice, like: int) -> int:
    """The first layer of `like` in a slice, or of the slice's first input where `like` is not in it."""
    return next((i.first for i in part.inputs if i.model == like), part.inputs[0].first)
