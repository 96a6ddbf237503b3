"""Mistral: Llama's block, with one sliding window for every layer where `sliding_window` is not null."""

from typing import Any

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.decoder import read_decoder
from jaxmerge.architectures.reading import positive_int


def read(config_json: dict[str, Any]) -> DecoderConfig:
    """A missing `sliding_window` means 4096 and null means none, as in transformers; `layer_types` plays no part."""
    window = None
    if config_json.get("sliding_window", 4096) is not None:
        window = positive_int(config_json, "sliding_window", 4096)
    num_layers = positive_int(config_json, "num_hidden_layers", 32)
    return read_decoder(config_json, "mistral", max_positions=4096 * 32, windows=(window,) * num_layers, num_kv_heads=8)
