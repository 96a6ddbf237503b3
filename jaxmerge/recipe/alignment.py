"""Which tensors of the inputs become which output tensor, and whether they fit each other."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from jaxmerge.architectures.registry import ARCHITECTURES
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.fit import BUFFERS, HEAD
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.recipe.layers import Layers, in_model_order, is_embedding
from jaxmerge.recipe.slices import Slice


@dataclass(frozen=True)
class Group:
    """name: of the output tensor. names: of the tensor in each input of `part`, None where an input lacks it.
    place: where it stands in its slice, 0 for the first layer to 1 for the last; 0 outside the layers.
    outside: whether it is in no layer. kept: whether it is copied, whatever the recipe merges by."""

    name: str
    part: Slice
    names: tuple[str | None, ...]
    place: Fraction
    outside: bool = False
    kept: bool = False


def groups(
    parts: Sequence[Slice], checkpoints: Sequence[Checkpoint], layers: Sequence[Layers], like: int
) -> list[Group]:
    """All output tensors in model order. What stands before the layers comes from the first slice's inputs, what stands
    behind them from the last slice's. like: the model whose config.json the output gets."""
    found: dict[str, Group] = {}
    for part in parts:
        for group in _in_layers(part, checkpoints, layers):
            found[group.name] = group
    for part, before in ((parts[0], True), (parts[-1], False)):
        for group in _outside(part, checkpoints, layers, before):
            found[group.name] = group
    _drop_tied_head(found, checkpoints, like)
    order = in_model_order(found, Layers({prefix: 0 for own in layers for prefix in own.stacks}))
    return [found[name] for name in order]


def _in_layers(part: Slice, checkpoints: Sequence[Checkpoint], layers: Sequence[Layers]) -> Iterator[Group]:
    rows: dict[tuple[str, int, str], list[str | None]] = defaultdict(lambda: [None] * len(part.inputs))
    for i, source in enumerate(part.inputs):
        for name in checkpoints[source.model].tensors:
            if (at := layers[source.model].split(name)) is None or BUFFERS.search(name):
                continue
            layer = at[1] - source.first
            if layer >= 0 and (part.depth is None or layer < part.depth):
                rows[at[0], layer, at[2]][i] = name
    depths = {prefix: 1 + max(layer for p, layer, _ in rows if p == prefix) for prefix in {key[0] for key in rows}}
    for (prefix, layer, rest), names in rows.items():
        place = Fraction(layer, depths[prefix] - 1) if depths[prefix] > 1 else Fraction(1)
        yield Group(f"{prefix}{part.offset + layer}{rest}", part, tuple(names), place)


def _outside(part: Slice, checkpoints: Sequence[Checkpoint], layers: Sequence[Layers], before: bool) -> Iterator[Group]:
    names: dict[str, list[str | None]] = defaultdict(lambda: [None] * len(part.inputs))
    for i, source in enumerate(part.inputs):
        for name in checkpoints[source.model].tensors:
            if layers[source.model].split(name) is None and is_embedding(name) == before and not BUFFERS.search(name):
                names[name][i] = name
    for name, own in names.items():
        yield Group(name, part, tuple(own), Fraction(0), outside=True)


def _drop_tied_head(found: dict[str, Group], checkpoints: Sequence[Checkpoint], like: int) -> None:
    """A head on disk beside tied embeddings is a copy of them. It is left out where the output ties them, and stands in
    for itself where it does not. Raises CheckpointError where an untied head would be lost."""
    if HEAD not in found:
        return
    group = found[HEAD]
    tied = [_is_tied(checkpoints[source.model]) for source in group.part.inputs]
    if _is_tied(checkpoints[like]):
        if not all(tied):
            untied = checkpoints[group.part.inputs[tied.index(False)].model].folder
            raise CheckpointError(
                f"{untied}: {HEAD} would be lost, since {checkpoints[like].folder} ties its embeddings; "
                "name an untied model as base_model"
            )
        del found[HEAD]
        return
    names = [
        stand_in(checkpoints[source.model], HEAD) if name is None and ties else name
        for source, name, ties in zip(group.part.inputs, group.names, tied, strict=True)
    ]
    found[HEAD] = replace(group, names=tuple(names))


def _is_tied(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get("tie_word_embeddings") is True


def stand_in(checkpoint: Checkpoint, name: str) -> str | None:
    """The tensor that a checkpoint has under a name; for the head of a tied one its embedding."""
    if name in checkpoint.tensors or name != HEAD or not _is_tied(checkpoint):
        return name if name in checkpoint.tensors else None
    return next((other for other in checkpoint.tensors if other.endswith("embed_tokens.weight")), None)


def require_whole(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where the tensors are not those of a known architecture. One that is unknown, or whose
    config.json we cannot read, merges by its tensor names all the same."""
    architecture = ARCHITECTURES.get(checkpoint.config.get("model_type", ""))
    if architecture is None:
        return
    try:
        table = architecture.table(architecture.read(checkpoint.config))
    except InputError:
        return
    shapes = {name: p.shape for p in table for name in p.names(table.num_layers)}
    for name, shape in shapes.items():
        if (info := checkpoint.info(name)).shape != shape:
            raise CheckpointError(
                f"{info.file}: tensor '{name}' is {list(info.shape)} but config.json makes it {list(shape)}; "
                "check that config.json belongs to these weights"
            )
    for name, info in checkpoint.tensors.items():
        if name not in shapes and name != HEAD and not BUFFERS.search(name):
            raise CheckpointError(
                f"{info.file}: tensor '{name}' is not a part of this architecture; "
                "check that config.json belongs to these weights"
            )
