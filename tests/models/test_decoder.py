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
    "llama-heads": ("llama", {"num_key_value_heads": 4, "head_dim": 20, "hidden_act": "gelu"}),
    "mistral-window": ("mistral", {"sliding_window": 7, "head_dim": 16}),
    "mistral-full": ("mistral", {"sliding_window": None, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", {}),
    "qwen2-windows-tied": (
        "qwen2",
        {"tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", {"head_dim": 24, "tie_word_embeddings": True}),
    "gemma": ("gemma", {"head_dim": 16, "num_key_value_heads": 1}),
    "gemma-untied": ("gemma", {"head_dim": 12, "tie_word_embeddings": False, "attention_bias": True}),
    "qwen3-untied-bias": ("qwen3", {"head_dim": 16, "attention_bias": True}),
    "qwen3-layer-types": (
        "qwen3",
        {
            "head_dim": 16,
            "use_sliding_window": True,
            "sliding_window": 4,
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
def test_logits_equal_transformers_for_each_rope(kind, make_model, ours, ropes):
    model = make_model("llama" if kind != "yarn" else "qwen3", rope_parameters=dict(ropes[kind]))
    check(model, ours(model), lengths=(100, 40) if kind == "dynamic" else (60, 17))


def test_a_token_sees_no_later_token(make_model, ours):
    config, params = ours(make_model("qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=1))
    tokens = np.arange(3, 23, dtype=np.int32)[None]
    changed = tokens.copy()
    changed[0, 12:] += 50
    valid = np.ones(tokens.shape, bool)
    run = jax.jit(lambda t: logits(Stored(params), config, t, valid, dtype=jnp.float32))
    a, b = np.asarray(run(tokens)), np.asarray(run(changed))
    assert (a[:, :12] == b[:, :12]).all()
    assert np.abs(a[:, 12:] - b[:, 12:]).max() > 1e-2


def test_bfloat16_stays_near_float32(make_model, ours):
    config, params = ours(make_model("qwen3", head_dim=16))
    tokens = np.random.default_rng(0).integers(3, 200, (2, 20)).astype(np.int32)
    valid = np.ones(tokens.shape, bool)
    half = {path: array.astype(jnp.bfloat16) for path, array in params.items()}
    run = jax.jit(lambda dtype: logits(Stored(half), config, tokens, valid, dtype=dtype), static_argnums=0)
    low, wide = run(jnp.bfloat16), run(jnp.float32)
    assert low.dtype == jnp.float32
    assert jnp.abs(low - wide).max() < 0.05 * jnp.abs(wide).max()
    assert jnp.abs(low - wide).max() > 0


def test_the_weights_of_a_layer_are_asked_for_once(make_model, ours):
    """The body of the scan is traced once, whatever the number of layers."""
    config, params = ours(make_model("llama"))
    calls = []

    class Counting(Stored):
        def layer(self, index):
            calls.append(index)
            return super().layer(index)

    tokens = np.ones((1, 4), np.int32)
    jax.jit(lambda: logits(Counting(params), config, tokens, tokens > 0, dtype=jnp.float32)).lower()
    assert len(calls) == 1
