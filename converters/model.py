"""Any folder with a model, Hugging Face or Flax: opened, and loaded as parameters."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.architectures.table import Table
from jaxmerge.converters import flax_folder, hf
from jaxmerge.converters.adapted import open_checkpoint
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.flax_folder import FlaxFolder
from jaxmerge.converters.hf import Params, Place
from jaxmerge.converters.reference import Location
from jaxmerge.errors import InputError


@dataclass(frozen=True)
class LoadedModel:
    """A model with its parameters. source: the folder it came from, whose companions an export takes
    along."""

    source: Checkpoint | FlaxFolder
    config: DecoderConfig
    table: Table
    params: Params = field(repr=False)


def open_model(place: str | Path | Location) -> Checkpoint | FlaxFolder:
    """Headers and config only. InputError or CheckpointError as of `open_checkpoint` and `FlaxFolder.open`."""
    location = place if isinstance(place, Location) else Location(Path(place))
    # A LoRA names tensors as a Hugging Face folder does.
    if location.adapter is None and flax_folder.is_flax_folder(location.folder):
        return FlaxFolder.open(location.folder)
    return open_checkpoint(location)


def layout_of(source: Checkpoint | FlaxFolder) -> tuple[DecoderConfig, Table]:
    """Sizes and table of a model, from its config.json. InputError where its architecture is unknown."""
    try:
        architecture = architecture_of(source.config)
        config = architecture.read(source.config)
    except InputError as error:
        raise InputError(f"{source.folder}: {error}") from error
    return config, architecture.table(config)


def load_model(
    location: str | Path | Location, dtype: np.dtype | None = None, place: Place | None = None
) -> LoadedModel:
    """Load a model of a known architecture; `dtype` and `place` as of `hf.load_params`."""
    source = open_model(location)
    config, table = layout_of(source)
    if isinstance(source, FlaxFolder):
        params = flax_folder.load(source, table, dtype, place)
    else:
        params = hf.load_params(source, table, dtype, place)
    return LoadedModel(source, config, table, params)
