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
from jaxmerge.recipe.alignment import Group, groups, require_whole, stand_in
from jaxmerge.recipe.layers import DEPTH_KEYS, find_layers
from jaxmerge.recipe.parameters import check_settings, resolve
from jaxmerge.recipe.schema import Recipe
from jaxmerge.recipe.slices import Slice, output_slices, references
from jaxmerge.recipe.vocabulary import VocabularyPlan, is_vocabulary, plan_vocabulary

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
    donors: tuple[Piece, ...] = ()

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Base and sources, each once."""
        return tuple(dict.fromkeys(self.sources if self.base is None else (self.base, *self.sources)))


@dataclass(frozen=True)
class Plan:
    """models, references: the checkpoints and what the recipe calls them. like: the one whose companions the output
    gets. config: the output's config.json. dtype: what inputs are cast to when they are read, None for their own.
    tensors: in the order of the output. seed: of random masks. vocabulary: None where the tokenizer is that of `like`.
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
    vocabulary = plan_vocabulary(
        recipe,
        document,
        models,
        None if recipe.base_model is None else index[recipe.base_model],
        lambda reference: _folder(reference, document),
    )
    build = _Build(recipe, document, operator, models, vocabulary)
    tensors = tuple(build.tensor(group) for group in groups(parts, models, layers, like))
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
        folder = _folder(reference, document)
        key = folder.resolve()
        if key not in opened:
            opened[key] = (len(opened), Checkpoint.open(folder), reference)
        index[reference] = opened[key][0]
    found = list(opened.values())
    return index, tuple(model for _, model, _ in found), tuple(name for _, _, name in found)


def _folder(reference: str, document: Document) -> Path:
    return resolve_reference(reference, relative_to=(Path(), document.file.parent))


@dataclass(frozen=True)
class _Build:
    """Makes the plan of one tensor after another."""

    recipe: Recipe
    document: Document
    operator: Operator
    models: tuple[Checkpoint, ...]
    vocabulary: VocabularyPlan | None

    def tensor(self, group: Group) -> TensorPlan:
        part = group.part
        pieces = {i: Piece(i.model, name) for i, name in zip(part.inputs, group.names, strict=True) if name is not None}
        donors = self._donors(group, tuple(pieces.values()))
        if not donors:
            self._require_one_shape(group, tuple(pieces.values()))
        infos = [self.models[piece.model].info(piece.name) for piece in pieces.values()]
        shape = infos[0].shape
        if donors and self.vocabulary is not None:
            shape = (self.vocabulary.size, *shape[1:])
        read = promoted([info.dtype for info in infos])
        if not all(is_float(info.dtype) for info in infos):
            # Counters and tables of indices are not averaged.
            return TensorPlan(group.name, shape, read, None, tuple(pieces.values()), {}, copied=True)
        dtype = named_dtype(self.recipe.out_dtype) or named_dtype(self.recipe.dtype) or read
        missing = [i for i in part.inputs if i not in pieces]
        if missing:
            if self.operator.copies_singletons and len(pieces) == 1:
                return TensorPlan(
                    group.name, shape, dtype, None, tuple(pieces.values()), {}, copied=True, donors=donors
                )
            raise CheckpointError(
                f"{self.models[missing[0].model].folder}: tensor '{group.name}' is missing, {infos[0].file.parent} "
                "has it; merge models of one architecture"
            )
        base, sources = part.split(self.operator)
        params = resolve(self.operator, group.name, group.place, sources, part, self.recipe, self.document)
        return TensorPlan(
            group.name,
            shape,
            dtype,
            None if base is None else pieces[base],
            tuple(pieces[i] for i in sources),
            params,
            # Only bytes move.
            copied=self.operator.name == "passthrough" and params["scale"].item() == 1,
            donors=donors,
        )

    def _donors(self, group: Group, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        if self.vocabulary is None or not group.outside:
            return ()
        if not all(is_vocabulary(group.name, self.models[piece.model], piece.name) for piece in pieces):
            return ()
        names = [(i, stand_in(model, group.name)) for i, model in enumerate(self.models)]
        return tuple(Piece(i, name) for i, name in names if name is not None)

    def _require_one_shape(self, group: Group, pieces: tuple[Piece, ...]) -> None:
        first = self.models[pieces[0].model].info(pieces[0].name)
        for piece in pieces[1:]:
            info = self.models[piece.model].info(piece.name)
            if info.shape == first.shape:
                continue
            if group.outside and info.shape[1:] == first.shape[1:]:
                remedy = "their vocabularies differ; set tokenizer: {source: union} or {source: base}"
            else:
                remedy = "merge models of one architecture"
            raise CheckpointError(
                f"{self.models[piece.model].folder}: tensor '{piece.name}' is {list(info.shape)} but "
                f"{list(first.shape)} in {self.models[pieces[0].model].folder}; {remedy}"
            )


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
