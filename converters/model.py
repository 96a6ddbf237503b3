"""Any folder with a model, Hugging Face or Flax: opened, and loaded as parameters."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.architectures.table import Table
from jaxmerge.converters import flax_folder, hf
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.flax_folder import FlaxFolder
from jaxmerge.converters.hf import Params, Place
from jaxmerge.errors import InputError


@dataclass(frozen=True)
class LoadedModel:
    """A model with its parameters. source: the folder it came from, whose companions an export takes
    along."""

    source: Checkpoint | FlaxFolder
    config: DecoderConfig
    table: Table
    params: Params = field(repr=False)


def open_model(folder: str | Path) -> Checkpoint | FlaxFolder:
    """Headers and config only. InputError or CheckpointError as of `Checkpoint.open` and
    `FlaxFolder.open`."""
    folder = Path(folder)
    return FlaxFolder.open(folder) if flax_folder.is_flax_folder(folder) else Checkpoint.open(folder)


def layout_of(source: Checkpoint | FlaxFolder) -> tuple[DecoderConfig, Table]:
    """Sizes and table of a model, from its config.json. InputError where its architecture is unknown."""
    try:
        architecture = architecture_of(source.config)
        config = architecture.read(source.config)
    except InputError as error:
        raise InputError(f"{source.folder}: {error}") from error
    return config, architecture.table(config)


def load_model(folder: str | Path, dtype: np.dtype | None = None, place: Place | None = None) -> LoadedModel:
    """Load a folder of a known architecture; `dtype` and `place` as of `hf.load_params`."""
    source = open_model(folder)
    config, table = layout_of(source)
    if isinstance(source, FlaxFolder):
        params = flax_folder.load(source, table, dtype, place)
    else:
        params = hf.load_params(source, table, dtype, place)
    return LoadedModel(source, config, table, params)
