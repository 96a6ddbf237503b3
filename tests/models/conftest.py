"""Small random models of transformers, as the truth that our forward pass is compared with."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

from jaxmerge.architectures.registry import architecture_of

SIZES = dict(
    vocab_size=211,
    hidden_size=48,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=64,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
ROPES: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default", "rope_theta": 5000.0},
    "linear": {"rope_type": "linear", "rope_theta": 10000.0, "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.5},
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
    },
    "yarn-mscale": {
        "rope_type": "yarn",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "original_max_position_embeddings": 16,
        "mscale": 1.3,
        "mscale_all_dim": 0.7,
        "beta_fast": 8.0,
        "beta_slow": 0.5,
        "truncate": False,
    },
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
}


@pytest.fixture(scope="session")
def make_model():
    """`make(family, **config)` gives transformers' model with random weights, biases and norms, ready to compare."""

    def make(family: str, **options: Any) -> transformers.PreTrainedModel:
        torch.manual_seed(0)
        config = transformers.AutoConfig.for_model(family, **{**SIZES, **options})
        config._attn_implementation = "eager"
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("norm.weight"):
                    parameter.uniform_(0.5, 1.5)
                else:
                    parameter.normal_(0, 1.0 if "embed" in name else 0.15)
        return model

    return make


@pytest.fixture(scope="session")
def ours():
    """`ours(model)` gives (config, params) of transformers' model, stacked by the architecture's own table."""

    def convert(model: transformers.PreTrainedModel):
        json = model.config.to_dict()
        architecture = architecture_of(json)
        config = architecture.read(json)
        table = architecture.table(config)
        state = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}
        if config.tie_embeddings:
            del state["lm_head.weight"]
        assert sorted(state) == sorted(table.names())
        params = {}
        for row in table:
            tensors = [state[name] for name in row.names(table.num_layers)]
            params[row.path] = jnp.asarray(np.stack(tensors) if row.stacked else tensors[0])
            assert params[row.path].shape == table.shape(row)
        return config, params

    return convert


@pytest.fixture(scope="session")
def ropes() -> dict[str, dict[str, Any]]:
    return ROPES
