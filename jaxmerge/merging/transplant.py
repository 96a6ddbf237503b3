"""A model with another model's tokenizer, and embeddings for its tokens without training.

Tokens that both have keep the model's own rows. One that the model lacks is written, in the donor's embedding, as a sum
of few shared tokens, and gets the same sum of the model's rows (Training-Free Tokenizer Transplantation via Orthogonal
Matching Pursuit, arXiv:2506.06607). Embedding and head are done each by itself.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import jaxmerge
from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import CONFIG, Checkpoint
from jaxmerge.converters.companions import copy_companions
from jaxmerge.converters.config_changes import settle_config
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.hf import cast
from jaxmerge.converters.output_folder import output_folder, require_absent, require_apart
from jaxmerge.converters.reference import resolve
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE, ShardWriter, parse_size
from jaxmerge.errors import CheckpointError, InputError, unknown
from jaxmerge.merging.card import CARD, Parent, front_matter, local_names, parents_section
from jaxmerge.merging.token_ids import TokenIds
from jaxmerge.merging.tokenizer import replace_tokenizer
from jaxmerge.recipe.dtypes import is_float
from jaxmerge.recipe.layers import find_layers, is_embedding
from jaxmerge.recipe.vocabulary import is_vocabulary, vocabulary_size
from jaxmerge.tokens.matching import shared_rows
from jaxmerge.tokens.tokenizer import named_tokens
from jaxmerge.tokens.vocabulary import Vocabulary

METHODS = ("omp", "average", "zero")
DEFAULT_ATOMS = 64
# Memory that the inner products and bases of one chunk of tokens may take.
CHUNK_BYTES = 1 << 28


@dataclass(frozen=True)
class Transplant:
    """tokens: of the new tokenizer. kept: those that the model had. made: those whose rows were made. rows: of the new
    embedding. error: by tensor the norm of what the sums miss in the donor's rows, by the norm of these rows."""

    tokens: int
    kept: int
    made: int
    rows: int
    error: dict[str, float] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Places:
    """own: for each row of the output the model's own, int64 `[rows]`, -1 where there is none. made: rows of the tokens
    that the model lacks. kept: how many it has. shared: rows of those in the donor, and in the model."""

    own: np.ndarray
    made: np.ndarray
    kept: int
    shared: tuple[np.ndarray, np.ndarray]


def transplant_tokens(
    model: str,
    donor: str,
    out: str | Path,
    *,
    method: str = "omp",
    k: int = DEFAULT_ATOMS,
    pad_to_multiple_of: int = 1,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
    force: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Transplant:
    """Write `model` with the tokenizer of `donor`, and tell what was done.

    method: for a token that the model lacks: `omp`, at most k shared tokens by orthogonal matching pursuit; `average`,
    the mean of all the model's rows; `zero`. The output has as many rows as the donor, padded to a multiple of
    `pad_to_multiple_of`; rows without a token keep what the model has there where that is no token's either, else are
    the mean (zero with `zero`). Sums are in float32 on the device, rounded once to the model's dtype. Raises InputError
    for wrong arguments and folders without a tokenizer.json, CheckpointError for models whose embeddings are not found,
    before a weight is read.
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1")
    if pad_to_multiple_of < 1:
        raise InputError(f"pad_to_multiple_of is {pad_to_multiple_of}; it must be at least 1")
    parse_size(max_shard_size)
    require_absent(Path(out), force=force)
    own, other = (open_checkpoint(resolve(ref, relative_to=[Path()])) for ref in (model, donor))
    require_apart(Path(out), (own.location, other.location))
    tensors = _counterparts(own, other if method == "omp" else own)
    target, source = (Vocabulary.read(checkpoint.folder) for checkpoint in (other, own))
    places = _places(target, source, own, other, pad_to_multiple_of)
    if method == "omp" and len(places.made) and not len(places.shared[0]):
        raise InputError(f"{donor}: shares no token with {model}; choose --method average")
    ids = TokenIds.of(source, target, other.folder, other.config)
    shapes = {name: own.info(name).shape for name in own.tensors}
    shapes |= {name: (len(places.own), *shapes[name][1:]) for name in tensors}
    entries = [(name, own.info(name).dtype, shape) for name, shape in shapes.items()]
    error: dict[str, float] = {}
    # In tensors, and in rows made of sums, which take the time.
    done, total = 0, len(shapes) + (len(tensors) * len(places.made) if method == "omp" else 0)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(min(done, total), total)

    with output_folder(Path(out), force=force) as part:
        with ShardWriter(part, entries, max_shard_size) as writer:
            for name in shapes:
                if name in tensors:
                    array, missed = _transplanted(name, own, other, tensors[name], places, method, k, advance)
                    error |= {} if missed is None else {name: missed}
                    writer.write(name, array)
                else:
                    writer.write(name, own.view(name))
                advance(1)
        copy_companions(own.folder, part)
        replace_tokenizer(other.folder, part)
        settle_config(ids.config(own.config, len(places.own)), part)
        ids.change_generation(part)
        found = Transplant(len(set(target.ids.values())), places.kept, len(places.made), len(places.own), error)
        (part / CARD).write_text(_card(model, donor, own, other, found, method), encoding="utf-8")
    return found


def _by_token(model: Checkpoint) -> list[str]:
    """The tensors with a row for each token."""
    layers = find_layers(model)
    found = [n for n in model.tensors if layers.place(n) is None and is_vocabulary(n, model, n)]
    if not any(is_embedding(name) for name in found):
        raise CheckpointError(
            f"{model.folder / CONFIG}: no embedding has the {vocabulary_size(model)} rows of 'vocab_size'; correct it"
        )
    for name in found:
        info = model.info(name)
        if not is_float(info.dtype):
            raise CheckpointError(f"{info.file}: tensor '{name}' is {info.dtype}; save it in BF16, F16 or F32")
    return found


def _counterparts(model: Checkpoint, donor: Checkpoint) -> dict[str, str]:
    """For each tensor of the model that has a row for each token the donor's embedding or head, which may be one."""
    matrices = [name for name in _by_token(donor) if len(donor.info(name).shape) == 2]
    embedding = next(filter(is_embedding, matrices))
    heads = [name for name in matrices if not is_embedding(name) and not _ties(donor)]
    head = heads[0] if heads and not _ties(model) else embedding
    return {name: embedding if is_embedding(name) else head for name in _by_token(model)}


def _ties(checkpoint: Checkpoint) -> bool:
    return checkpoint.config.get("tie_word_embeddings") is True


def _places(target: Vocabulary, source: Vocabulary, model: Checkpoint, donor: Checkpoint, multiple: int) -> _Places:
    """target: the donor's vocabulary. source: the model's."""
    depth, donor_depth = vocabulary_size(model), vocabulary_size(donor)
    size = -(-max(donor_depth, target.size) // multiple) * multiple
    rows = shared_rows(target, source, named_tokens(donor.folder), named_tokens(model.folder))
    own = np.full(size, -1, np.int64)
    own[: target.size] = np.where(rows < depth, rows, -1)
    tokens = np.zeros(max(size, depth), bool)
    tokens[list(target.ids.values())] = True
    made = np.flatnonzero(tokens[:size] & (own < 0))
    kept = np.flatnonzero(own >= 0)
    atoms = kept[kept < donor_depth]
    shared = atoms, own[atoms]
    # Padding of both stays.
    tokens[[i for i in source.ids.values() if i < depth]] = True
    spare = np.flatnonzero(~tokens[: min(size, depth)])
    own[spare] = spare
    return _Places(own, made, len(kept), shared)


def _transplanted(
    name: str,
    model: Checkpoint,
    donor: Checkpoint,
    like: str,
    places: _Places,
    method: str,
    k: int,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, float | None]:
    """The model's tensor with the output's rows, and the share of the donor's rows that the sums miss."""
    array = model.read(name)
    require_finite(f"{model.info(name).file}: tensor '{name}'", array)
    has = places.own >= 0
    result = np.zeros((len(has), *array.shape[1:]), array.dtype)
    result[has] = array[places.own[has]]
    mean = array.mean(axis=0, dtype=np.float32) if method != "zero" else np.zeros(array.shape[1:], np.float32)
    result[~has] = mean.astype(array.dtype)
    if method != "omp" or not len(places.made):
        return result, None
    embedding = donor.read(like)
    require_finite(f"{donor.info(like).file}: tensor '{like}'", embedding)
    # A tokenizer may know more tokens than the embedding has rows; what is unknown stays the mean.
    made = places.made[places.made < len(embedding)]
    rows, missed = _sums(embedding, made, places.shared, array, k, advance)
    result[made] = cast(name, rows, array.dtype)
    return result, missed


def _sums(
    embedding: np.ndarray,
    made: np.ndarray,
    shared: tuple[np.ndarray, np.ndarray],
    own: np.ndarray,
    k: int,
    advance: Callable[[int], None],
) -> tuple[np.ndarray, float]:
    """Rows of the tokens `made`, float32, and what their sums miss in the donor's embedding. own: the model's. advance:
    called with the number of rows that have come about."""
    import jax.numpy as jnp

    from jaxmerge.merging.pursuit import pursue

    atoms = embedding[shared[0]].astype(np.float32)
    images = own[shared[1]].astype(np.float32)
    k = min(k, len(atoms))
    each = 4 * (2 * len(atoms) + k * (2 * atoms.shape[1] + k + images[0].size))
    chunk = max(1, min(512, len(made), CHUNK_BYTES // each))
    on_device, result, missed, norm = jnp.asarray(atoms), np.empty((len(made), *images.shape[1:]), np.float32), 0.0, 0.0
    for start in range(0, len(made), chunk):
        targets = embedding[made[start : start + chunk]].astype(np.float32)
        padded = np.pad(targets, ((0, chunk - len(targets)), (0, 0)))
        chosen, coefficients = (np.asarray(part)[: len(targets)] for part in pursue(jnp.asarray(padded), on_device, k))
        left = targets - np.einsum("bk,bkd->bd", coefficients, atoms[chosen], optimize=True)
        missed, norm = missed + _square(left), norm + _square(targets)
        advance(len(targets))
        result[start : start + chunk] = np.einsum("bk,bk...->b...", coefficients, images[chosen], optimize=True)
    return result, (missed / norm) ** 0.5 if norm else 0.0


def _square(array: np.ndarray) -> float:
    return float(np.square(array, dtype=np.float64).sum())


def _card(model: str, donor: str, own: Checkpoint, other: Checkpoint, found: Transplant, method: str) -> str:
    sources, names = ((model, own), (donor, other)), local_names((model, donor))
    parents = [Parent.of("", ref, checkpoint.location, names) for ref, checkpoint in sources]
    how = {"omp": "by orthogonal matching pursuit", "average": "the mean of all rows", "zero": "zero"}[method]
    text = (
        f"`{parents[0].model}` with the tokenizer of `{parents[1].model}`: {found.kept} of {found.tokens} tokens keep "
        f"their embeddings, {found.made} are made ({how}). Made by jaxmerge {jaxmerge.__version__}."
    )
    return "\n\n".join((front_matter(parents), "# A transplanted tokenizer", text, parents_section(parents))) + "\n"
