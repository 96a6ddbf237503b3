"""Logits equal those of transformers, and do not depend on padding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from jaxmerge.models.decoder import logits
from jaxmerge.models.weights import Stored

FAMILIES = {
    "llama": ("llama", {}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-head-dim": ("llama", {"head_dim": 20}),
    "llama-multi-head": ("llama", {"num_key_value_heads": 4, "hidden_act": "gelu"}),
    "mistral-window": ("mistral", {"sliding_window": 7, "head_dim": 16}),
    "mistral-full": ("mistral", {"sliding_window": None, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen2-tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2-windows": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "qwen3": ("qwen3", {"head_dim": 24, "tie_word_embeddings": True}),
    "qwen3-bias": ("qwen3", {"head_dim": 16, "attention_bias": True}),
    "qwen3-layer-types": (
        "qwen3",
        {
            "head_dim": 16, "use_sliding_window": True, "sliding_window": 4,
            "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        },
    ),
}
LENGTHS = (3, 17, 30)


def padded(rows: list[np.ndarray], side: str) -> tuple[np.ndarray, np.ndarray]:
    width = max(map(len, rows)) + 2
    tokens, valid = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        at = slice(width - len(row), None) if side == "left" else slice(0, len(row))
        tokens[i, at], valid[i, at] = row, True
    return tokens, valid


def truth(model, row: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.tensor(row[None]).long()).logits[0].numpy()


def check(model, converted, lengths=LENGTHS):
    config, params = converted
    rng = np.random.default_rng(0)
    rows = [rng.integers(3, config.vocab_size, n).astype(np.int32) for n in lengths]
    expected = [truth(model, row) for row in rows]
    run = jax.jit(lambda p, t, v: logits(Stored(p), config, t, v, dtype=jnp.float32))
    for side in ("left", "right"):
        tokens, valid = padded(rows, side)
        got = np.asarray(run(params, tokens, valid))
        assert np.isfinite(got).all()
        for i, want in enumerate(expected):
            assert np.abs(got[i][valid[i]] - want).max() <= 1e-4 * np.abs(want).max()


@pytest.mark.parametrize("name", FAMILIES)
def test_logits_equal_transformers_for_each_family(name, make_model, ours):
    family, options = FAMILIES[name]
    model = make_model(family, **options)
    check(model, ours(model))


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "yarn-mscale", "llama3"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_logits_equal_transformers_for_each_rope(family, kind, make_model, ours, ropes):
    model = make_model(family, rope_parameters=dict(ropes[kind]))
    check(model, ours(model), lengths=(100, 40) if kind == "dynamic" else (60, 17))
