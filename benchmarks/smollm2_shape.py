"""A model of SmolLM2-135M's shape with random weights, and experts near it: what speed is measured on."""

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.architectures.table import Table

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 100000,
    "tie_word_embeddings": True,
    "vocab_size": 49152,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


@dataclass(frozen=True)
class InMemory:
    """A checkpoint that lies in memory."""

    tensors: dict[str, np.ndarray]

    def read(self, name: str) -> np.ndarray:
        return self.tensors[name]


def shape() -> tuple[DecoderConfig, Table]:
    architecture = architecture_of(CONFIG)
    config = architecture.read(CONFIG)
    return config, architecture.table(config)


def sources(count: int, dtype: str) -> tuple[InMemory, tuple[InMemory, ...]]:
    """A base and `count` experts, each the base plus small noise, in the named dtype."""
    _, table = shape()
    rng = np.random.default_rng(0)
    base, experts = {}, [{} for _ in range(count)]
    for parameter in table:
        for name in parameter.names(table.num_layers):
            norm = len(parameter.shape) == 1
            tensor = np.ones(parameter.shape, np.float32) if norm else _normal(rng, parameter.shape, 0.04)
            base[name] = tensor.astype(DTYPES[dtype])
            for expert in experts:
                expert[name] = (tensor + _normal(rng, parameter.shape, 0.004)).astype(DTYPES[dtype])
    return InMemory(base), tuple(InMemory(expert) for expert in experts)


def _normal(rng: np.random.Generator, shape: tuple[int, ...], std: float) -> np.ndarray:
    return rng.standard_normal(shape, np.float32) * np.float32(std)
