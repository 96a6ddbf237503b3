"""Qwen3: RMS norms on queries and keys, a head_dim of its own, windows by layer."""

from typing import Any

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.decoder import read_decoder
from jaxmerge.architectures.reading import switch
from jaxmerge.architectures.windows import read_layer_windows


def read(config_json: dict[str, Any]) -> DecoderConfig:
    bias = switch(config_json, "attention_bias", False)
    return read_decoder(
        config_json,
        "qwen3",
        max_positions=32768,
        windows=read_layer_windows(config_json),
        head_dim=128,
        qkv_bias=bias,
        output_bias=bias,
        qk_norm=True,
    )
