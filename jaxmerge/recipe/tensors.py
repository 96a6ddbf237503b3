"""The plan of one output tensor: its inputs, parameters, shape and dtype."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.documents import Document
from jaxmerge.errors import CheckpointError
from jaxmerge.operators.interface import Operator
from jaxmerge.recipe.alignment import Group, stand_in
from jaxmerge.recipe.dtypes import is_float, named_dtype, promoted
from jaxmerge.recipe.parameters import resolve
from jaxmerge.recipe.schema import Recipe
from jaxmerge.recipe.slices import Input, Slice
from jaxmerge.recipe.vocabulary import VocabularyPlan, is_vocabulary


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
    donors: where the recipe asks for another vocabulary and the tensor has a row for each token, this tensor of every
    model, from whose rows base and sources are put together; else empty.
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
class TensorPlanner:
    """Makes the plan of one tensor after another, all of one recipe."""

    recipe: Recipe
    document: Document
    operator: Operator
    models: tuple[Checkpoint, ...]
    vocabulary: VocabularyPlan | None

    def tensor(self, group: Group) -> TensorPlan | None:
        """None where the operator leaves out a tensor that models lack."""
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
            self._require_one_kind(group, tuple(pieces.values()))
            # Counters and tables of indices are not averaged.
            return TensorPlan(group.name, shape, read, None, tuple(pieces.values()), {}, copied=True)
        dtype = named_dtype(self.recipe.out_dtype) or named_dtype(self.recipe.dtype) or read
        if group.kept:
            return TensorPlan(group.name, shape, dtype, None, tuple(pieces.values()), {}, copied=True, donors=donors)
        base, sources = part.split(self.operator)
        missing = [i for i in part.inputs if i not in pieces]
        if missing and self.operator.lacking == "merge_rest":
            left = tuple(i for i in sources if i in pieces)
            if base in pieces and len(left) >= self.operator.min_sources:
                sources, missing = left, []
        if missing:
            if (copy := self._copied(part, pieces)) is not None:
                return TensorPlan(group.name, shape, dtype, None, (copy,), {}, copied=True, donors=donors)
            if self.operator.lacking == "merge_rest":
                return None
            raise CheckpointError(
                f"{self.models[missing[0].model].folder}: tensor '{group.name}' is missing, {infos[0].file.parent} "
                "has it; merge models of one architecture"
            )
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

    def _copied(self, part: Slice, pieces: Mapping[Input, Piece]) -> Piece | None:
        """The tensor that stands for one that models lack."""
        rule = self.operator.lacking
        of_base = next((piece for i, piece in pieces.items() if i.model == part.base), None)
        if rule == "copy_single" and len(pieces) == 1:
            return next(iter(pieces.values()))
        if rule == "merge_rest" or (rule == "copy_base" and len(pieces) == 1):
            return of_base
        return None

    def _donors(self, group: Group, pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
        if self.vocabulary is None or not self.vocabulary.rows or not group.outside:
            return ()
        if not all(is_vocabulary(group.name, self.models[piece.model], piece.name) for piece in pieces):
            return ()
        names = [(i, stand_in(model, group.name)) for i, model in enumerate(self.models)]
        return tuple(Piece(i, name) for i, name in names if name is not None)

    def _require_one_kind(self, group: Group, pieces: tuple[Piece, ...]) -> None:
        infos = {piece: self.models[piece.model].info(piece.name) for piece in pieces}
        exact = next(info for info in infos.values() if not is_float(info.dtype))
        if other := next((info for info in infos.values() if is_float(info.dtype)), None):
            raise CheckpointError(
                f"{exact.file}: tensor '{group.name}' is {exact.dtype} but {other.dtype} in {other.file}; "
                "save it in BF16, F16 or F32"
            )

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
