"""Greedy generation against transformers' `generate`, 64 prompts of different lengths, the same cores and weights.

    python benchmarks/generation.py

SmolLM2-135M's shape in float32, random weights, 64 new tokens a prompt (no end of text, so that both do the same work).
"""

import time

import jax
import jax.numpy as jnp
import numpy as np
import torch
import transformers
from machine import write
from smollm2_shape import CONFIG, shape, sources

from jaxmerge.models.generation import generate
from jaxmerge.models.weights import Stored

PROMPTS, NEW, ROUNDS = 64, 64, 3


def main() -> None:
    config, table = shape()
    base, _ = sources(0, "float32")
    rng = np.random.default_rng(0)
    lengths = rng.integers(16, 65, PROMPTS)
    valid = np.arange(64)[None] >= 64 - lengths[:, None]
    tokens = np.where(valid, rng.integers(3, config.vocab_size, valid.shape), 0).astype(np.int32)
    params = {
        p.path: jnp.asarray(np.stack(stack) if p.stacked else stack[0])
        for p in table
        for stack in [[base.read(name) for name in p.names(table.num_layers)]]
    }
    ours = jax.jit(
        lambda params: generate(
            Stored(params), config, tokens, valid, max_new_tokens=NEW, stop_ids=(-1,), dtype=jnp.float32
        )
    )
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**CONFIG)).eval()
    state = {name: torch.from_numpy(tensor) for name, tensor in base.tensors.items()}
    model.load_state_dict(state | {"lm_head.weight": state["model.embed_tokens.weight"]})
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False, "pad_token_id": 0}
    inputs = {"input_ids": torch.from_numpy(tokens).long(), "attention_mask": torch.from_numpy(valid).long()}

    def theirs() -> np.ndarray:
        with torch.no_grad():
            return model.generate(**inputs, **options)[:, 64:].numpy()

    mine = np.asarray(ours(params))
    agreement = float((mine == theirs()).all(axis=1).mean())
    seconds = np.array([[_seconds(lambda: ours(params)), _seconds(theirs)] for _ in range(ROUNDS)])
    rates = PROMPTS * NEW / np.median(seconds, axis=0)
    result = {
        "tokens_per_second": float(rates[0]),
        "transformers_tokens_per_second": float(rates[1]),
        "ratio": float(np.median(seconds[:, 1] / seconds[:, 0])),
        "prompts_with_equal_text": agreement,
    }
    write("generation", result)


def _seconds(call) -> float:
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
