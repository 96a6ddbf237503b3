"""The models of an evolve config: found, opened and held against one another before a weight is read."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.table import Table
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.fit import require_fit
from jaxmerge.converters.model import layout_of, open_model
from jaxmerge.converters.reference import Location, resolve, spelled_out
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.search.config import BASE, EvolveConfig


@dataclass(frozen=True)
class Models:
    """config, table: of the base, or of the first expert; all models fit them.
    references: how a recipe names each model: an absolute path for a folder, else the hub id as it was given; what an
    earlier stage made has the stage's name."""

    experts: dict[str, Checkpoint]
    base: Checkpoint | None
    tokenizer: Path
    config: DecoderConfig
    table: Table
    references: dict[str, str]

    @property
    def sources(self) -> dict[str, Checkpoint]:
        """The experts, and the base by that name."""
        return self.experts | ({BASE: self.base} if self.base is not None else {})

    @property
    def like(self) -> Checkpoint:
        """The model whose config.json and generation config a merge takes along."""
        return self.base if self.base is not None else next(iter(self.experts.values()))

    @property
    def tokenizer_source(self) -> dict[str, str]:
        """The recipe's key for a tokenizer that is not that of `like`."""
        if self.tokenizer == self.like.folder:
            return {}
        made = {self.experts[name].folder: name for name in self.experts if self.references[name] == name}
        return {"tokenizer_source": made.get(self.tokenizer, str(self.tokenizer.resolve()))}


def open_models(config: EvolveConfig) -> Models:
    """The models of a parameter space, all of one layout.

    Raises InputError for a reference that leads nowhere, CheckpointError for models that do not fit each other.
    """
    experts, base, references = open_references(config)
    first = base if base is not None else next(iter(experts.values()))
    decoder, table = layout_of(first)
    require_task_vectors(config, experts, base)
    for name, source in experts.items():
        require_same_layout(name, source, first, decoder, table)
    for source in (first, *experts.values()):
        require_fit(source, table)
    return Models(experts, base, tokenizer_folder(config, experts, first), decoder, table, references)


def require_task_vectors(config: EvolveConfig, experts: Mapping[str, Checkpoint], base: Checkpoint | None) -> None:
    """Raises InputError for an expert that is the base. A recipe that names the base among its models means the base:
    this source would be lost in it."""
    for name, source in experts.items():
        if base is not None and config.operator.takes_base and source.location.resolve() == base.location.resolve():
            raise InputError(f"models.{name}: {source.folder} is the base itself and has no task vector; remove it")


def open_references(config: EvolveConfig) -> tuple[dict[str, Checkpoint], Checkpoint | None, dict[str, str]]:
    """Experts, base and references of `Models`; headers are read."""
    references: dict[str, str] = {}

    def opened(name: str, ref: str, key: str) -> Checkpoint:
        location = _resolved(ref, config.folder, key)
        references[name] = name if name in config.earlier else spelled_out(ref, config.folder)
        source = open_model(location)
        if not isinstance(source, Checkpoint):
            raise InputError(f"{key}: {location} is a Flax folder; jaxmerge convert makes it a Hugging Face folder")
        return source

    experts = {name: opened(name, ref, f"models.{name}") for name, ref in config.models.items()}
    base = opened(BASE, config.base, "base") if config.base is not None else None
    return experts, base, references


def tokenizer_folder(config: EvolveConfig, experts: Mapping[str, Checkpoint], first: Checkpoint) -> Path:
    """first: the model whose tokenizer `base` means."""
    if config.tokenizer == BASE:
        return first.folder
    if config.tokenizer in experts:
        return experts[config.tokenizer].folder
    return _resolved(config.tokenizer, config.folder, "tokenizer").folder


def _resolved(ref: str, folder: Path, key: str) -> Location:
    try:
        return resolve(ref, relative_to=[folder])
    except InputError as error:
        raise InputError(f"{key}: {error}") from error


def require_same_layout(
    name: str, source: Checkpoint, first: Checkpoint, expected: DecoderConfig, table: Table
) -> None:
    """Raises CheckpointError where a model cannot be merged in parameter space with `first`."""
    config, _ = layout_of(source)
    for key, label in (
        ("num_layers", "num_hidden_layers"),
        ("vocab_size", "vocab_size"),
        ("hidden_size", "hidden_size"),
        ("intermediate_size", "intermediate_size"),
        ("num_heads", "num_attention_heads"),
        ("num_kv_heads", "num_key_value_heads"),
        ("head_dim", "head_dim"),
        ("tie_embeddings", "tie_word_embeddings"),
    ):
        mine, theirs = getattr(config, key), getattr(expected, key)
        if mine != theirs:
            raise CheckpointError(
                f"models.{name}: {source.folder}: {label} is {mine}, but {theirs} in {first.folder}; models that are "
                "merged in parameter space must have the same shapes"
            )
    # What no tensor holds comes from one config.json for all, in a merge and for the parents that are scored with it.
    for key in ("family", "rope", "norm_eps", "activation", "windows"):
        if getattr(config, key) != getattr(expected, key):
            warnings.warn(
                f"models.{name}: {source.folder}: its {key} differs from that of {first.folder}, which is used for all",
                stacklevel=2,
            )
    if set(source.tensors) < set(table.names()):
        missing = min(set(table.names()) - set(source.tensors))
        raise CheckpointError(f"models.{name}: {source.folder}: tensor '{missing}' is missing")
