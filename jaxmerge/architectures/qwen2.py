"""Qwen2 and Qwen2.5: biases on the query, key and value matrices, windows by layer."""

from typing import Any

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.decoder import read_decoder
from jaxmerge.architectures.windows import read_layer_windows


def read(config_json: dict[str, Any]) -> DecoderConfig:
    return read_decoder(
        config_json, "qwen2", max_positions=32768, windows=read_layer_windows(config_json), qkv_bias=True
    )
