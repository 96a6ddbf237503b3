"""The architectures that jaxmerge can run, by the `model_type` of config.json."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jaxmerge.architectures import gemma, llama, mistral, qwen2, qwen3
from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.decoder import decoder_table
from jaxmerge.architectures.table import Table
from jaxmerge.architectures.windows import read_layer_types
from jaxmerge.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """A family of models. read: config.json to sizes; table: sizes to the list of parameters. layer_types: config.json
    to the kind of attention of each layer, for a family whose layers may differ in it; None where there are no windows.
    unfoldable: why a scale of the stream cannot be folded into its blocks, see `architectures.fold`; None where it can.
    """

    name: str
    read: Callable[[dict[str, Any]], DecoderConfig]
    table: Callable[[DecoderConfig], Table]
    layer_types: Callable[[dict[str, Any]], list[str] | None] | None = None
    unfoldable: str | None = None


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", llama.read, decoder_table),
    "mistral": Architecture("mistral", mistral.read, decoder_table),
    "qwen2": Architecture("qwen2", qwen2.read, decoder_table, read_layer_types),
    "qwen3": Architecture("qwen3", qwen3.read, decoder_table, read_layer_types),
    "gemma": Architecture("gemma", gemma.read, decoder_table),
}


def architecture_of(config_json: dict[str, Any]) -> Architecture:
    """The architecture of a checkpoint. An InputError names a `model_type` that is unknown or missing."""
    model_type = config_json.get("model_type")
    if model_type not in ARCHITECTURES:
        raise InputError(
            f"config.json: 'model_type' is {model_type!r}; models that can be run are {', '.join(ARCHITECTURES)} "
            "(merging alone works for any safetensors checkpoint)"
        )
    return ARCHITECTURES[model_type]
