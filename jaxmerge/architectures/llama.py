"""Llama 1 to 3.x, SmolLM2, TinyLlama and others of model_type `llama`."""

from typing import Any

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.decoder import read_decoder
from jaxmerge.architectures.reading import switch


def read(config_json: dict[str, Any]) -> DecoderConfig:
    """`attention_bias` puts a bias on all four attention matrices, `mlp_bias` on the three of the MLP."""
    bias = switch(config_json, "attention_bias", False)
    return read_decoder(
        config_json,
        "llama",
        max_positions=2048,
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=switch(config_json, "mlp_bias", False),
    )
