"""What a recipe's `tokenizer` asks for: the output's vocabulary and each model's rows in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxmerge.converters.checkpoint import CONFIG, Checkpoint, read_config
from jaxmerge.converters.reference import Location
from jaxmerge.documents import Document, Keys
from jaxmerge.recipe.schema import Recipe, Tokenizer, TokenSource
from jaxmerge.tokens.rows import Row, Rows, align
from jaxmerge.tokens.vocabulary import Vocabulary, union


@dataclass(frozen=True)
class VocabularyPlan:
    """folder: where the tokenizer's files are copied from. vocabulary: the output's; extended: it has tokens that the
    tokenizer in `folder` lacks. rows: of each model; empty where all have this vocabulary and embeddings stay as they
    are. size: rows of the output's embedding. special: the entries `*_token_id` that config.json gets.
    """

    folder: Path
    vocabulary: Vocabulary = field(repr=False)
    extended: bool
    rows: tuple[Rows, ...] = field(repr=False)
    size: int
    special: Mapping[str, Any]


def plan_vocabulary(
    recipe: Recipe,
    document: Document,
    models: Sequence[Checkpoint],
    base: int | None,
    resolve: Callable[[str], Location],
) -> VocabularyPlan | None:
    """None where the recipe asks for no tokenizer. resolve: where a reference leads.

    Raises InputError for a tokenizer that is missing, a token that a model lacks, and a model that is not merged.
    """
    wanted = recipe.tokenizer
    keys: Keys = ("tokenizer",)
    if recipe.tokenizer_source is not None:
        wanted, keys = Tokenizer(source=recipe.tokenizer_source), ("tokenizer_source",)
    if wanted is None:
        return None
    vocabularies = [Vocabulary.read(model.folder) for model in models]
    folder, start = _start(wanted, document, keys, models, vocabularies, base, resolve)
    output = start
    if wanted.source == "union":
        output = union([start, *(v for v in vocabularies if v is not start)])
    output = output.extended(wanted.tokens, vocabularies)
    config = read_config(folder) if (folder / CONFIG).is_file() else {}
    special = {key: i for key, i in config.items() if key.endswith("_token_id")}
    extended = len(output.ids) > len(start.ids)

    depths = [vocabulary_size(model) for model in models]
    multiple = wanted.pad_to_multiple_of or 1
    forced = frozenset(token for token, entry in wanted.tokens.items() if entry.force)
    same = not forced and len(set(depths)) == 1 and all(vocabulary.ids == output.ids for vocabulary in vocabularies)
    if same and depths[0] >= output.size and depths[0] % multiple == 0:
        return VocabularyPlan(folder, output, extended, (), depths[0], special)
    given: dict[str, tuple[Row, ...]] = {}
    for token, entry in wanted.tokens.items():
        if entry.source is not None:
            at: Keys = (*keys, "tokens", token, "source")
            given[token] = _row(token, entry.source, document, at, models, vocabularies, resolve)
    size = -(-output.size // multiple) * multiple
    rows = align(output, vocabularies, depths, base, given, forced, size)
    return VocabularyPlan(folder, output, extended, rows, size, special)


def _start(
    wanted: Tokenizer,
    document: Document,
    keys: Keys,
    models: Sequence[Checkpoint],
    vocabularies: Sequence[Vocabulary],
    base: int | None,
    resolve: Callable[[str], Location],
) -> tuple[Path, Vocabulary]:
    """The tokenizer that the output's starts from, and its folder."""
    if wanted.source == "base" and base is None:
        raise document.error(keys, "the tokenizer of the base needs the key 'base_model'")
    if wanted.source in ("base", "union"):
        first = 0 if base is None else base
        return models[first].folder, vocabularies[first]
    folder = resolve(wanted.source).folder
    return folder, Vocabulary.read(folder)


def is_vocabulary(name: str, checkpoint: Checkpoint, part: str) -> bool:
    """Whether the tensor `part` of a model, outside its layers, has a row for each token. name: what the output calls
    it.
    """
    shape = checkpoint.info(part).shape
    return (
        bool(shape)
        and shape[0] == vocabulary_size(checkpoint)
        and any(word in name for word in ("embed", "wte", "head"))
    )


def vocabulary_size(checkpoint: Checkpoint) -> int:
    """Rows of the embedding as config.json has them, padding too; 0 where it is silent."""
    config = checkpoint.config
    parts = [config, *(value for value in config.values() if isinstance(value, dict))]
    return next((part["vocab_size"] for part in parts if isinstance(part.get("vocab_size"), int)), 0)


def _row(
    token: str,
    source: TokenSource,
    document: Document,
    keys: Keys,
    models: Sequence[Checkpoint],
    vocabularies: Sequence[Vocabulary],
    resolve: Callable[[str], Location],
) -> tuple[Row, ...]:
    if source.model is None:
        return ()
    location = resolve(source.model).resolve()
    model = next((i for i, other in enumerate(models) if other.location.resolve() == location), None)
    if model is None:
        raise document.error(keys, f"{source.model} is not one of the merged models; name one of them")
    wanted = token if source.kind == "model" else source.token
    row = source.token_id if wanted is None else vocabularies[model].ids.get(wanted)
    if row is None or row >= vocabulary_size(models[model]):
        missing = f"token '{wanted}'" if wanted is not None else f"token {source.token_id}"
        raise document.error(keys, f"{source.model} has no {missing}; name another source")
    return ((model, row),)
