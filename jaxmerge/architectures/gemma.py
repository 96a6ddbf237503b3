"""Gemma 1: norms whose weights are kept as their difference from one, scaled embeddings, tied to the head."""

from dataclasses import replace
from typing import Any

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.decoder import read_decoder
from jaxmerge.architectures.reading import switch
from jaxmerge.errors import InputError


def read(config_json: dict[str, Any]) -> DecoderConfig:
    """transformers reads `hidden_act` and leaves the older `hidden_activation` alone; so does this."""
    if switch(config_json, "use_bidirectional_attention", False):
        raise InputError("config.json: 'use_bidirectional_attention' is true; only causal decoders can be run")
    bias = switch(config_json, "attention_bias", False)
    filled = {"hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True}
    given = {key: value for key, value in config_json.items() if value is not None}
    config = read_decoder(
        filled | given, "gemma", max_positions=8192, head_dim=256, qkv_bias=bias, output_bias=bias
    )
    return replace(config, norm_offset=1.0, embed_scale=config.hidden_size**0.5)
