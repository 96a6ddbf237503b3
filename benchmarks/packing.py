"""Likelihood of texts of different lengths: packed into rows with segment masks against buckets, the same cores.

    python benchmarks/packing.py

A model of SmolLM2's width with 4 layers, random weights and a vocabulary of 8192, in float32. The lengths are drawn as
those of questions with worked answers lie: lognormal, median 140 tokens, 32 to 512. A packed row is as long as the
longest text; attention stays inside a text, and positions begin with it. The sums of all texts are the same to 1e-4.
"""

import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from machine import write
from smollm2_shape import CONFIG

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.models.attention import attend, visible
from jaxmerge.models.block import block, rms_norm
from jaxmerge.models.decoder import embedded, layer_of
from jaxmerge.models.likelihood import Running, finished, nothing_yet, over_head, sequence_log_likelihood, with_block
from jaxmerge.models.rope import rotation
from jaxmerge.models.weights import Params, Stored
from jaxmerge.objectives.batching import Tokens, collate, length_groups

TEXTS, MEDIAN, SPREAD, SHORTEST, LONGEST, ROUNDS = 48, 140, 0.5, 32, 512, 3
SHAPE = {**CONFIG, "num_hidden_layers": 4, "vocab_size": 8192}


def packed(texts: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens, segments (the number of the text, -1 at padding) and positions, int32 `[rows, T]`: first fit, the longest
    text first."""
    length = -(-max(map(len, texts)) // 8) * 8
    rows: list[list[int]] = []
    for number in sorted(range(len(texts)), key=lambda i: -len(texts[i])):
        used = (row for row in rows if sum(len(texts[i]) for i in row) + len(texts[number]) <= length)
        if (row := next(used, None)) is None:
            rows.append(row := [])
        row.append(number)
    tokens, positions = (np.zeros((len(rows), length), np.int32) for _ in range(2))
    segments = np.full((len(rows), length), -1, np.int32)
    for place, row in enumerate(rows):
        start = 0
        for number in row:
            part = slice(start, start := start + len(texts[number]))
            tokens[place, part], segments[place, part] = texts[number], number
            positions[place, part] = np.arange(len(texts[number]))
    return tokens, segments, positions


def packed_likelihood(params: Params, config: DecoderConfig, tokens: Array, segments: Array, positions: Array) -> Array:
    """Of every text: float32 `[texts]`."""
    weights = Stored(params)
    cos, sin = rotation(config, positions, positions.max(axis=-1) + 1)
    seen = visible(positions, positions, segments >= 0, None) & (segments[:, :, None] == segments[:, None])

    def step(x: Array, index: Array) -> tuple[Array, None]:
        layer = layer_of(weights, index, jnp.float32)
        return block(layer, config, x, cos, sin, lambda q, k, v: (attend(q, k, v, seen), None))[0], None

    x, _ = lax.scan(step, embedded(weights, config, tokens, jnp.float32), jnp.arange(config.num_layers))
    x = rms_norm(x, weights.whole("norm.weight"), config)[:, :-1].reshape(-1, config.hidden_size)
    targets = jnp.asarray(tokens)[:, 1:].ravel()

    def add(running: Running, *rows: Any) -> Running:
        return with_block(running, x, targets, *rows)

    running = over_head(weights, config, x, nothing_yet, add, lambda parts: parts, block_size=None)
    per_token = finished(running).reshape(segments[:, 1:].shape)
    inside = (segments[:, 1:] == segments[:, :-1]) & (segments[:, 1:] >= 0)
    return jax.ops.segment_sum(jnp.where(inside, per_token, 0.0).ravel(), segments[:, 1:].ravel(), TEXTS)


def main() -> None:
    architecture = architecture_of(SHAPE)
    config = architecture.read(SHAPE)
    rng = np.random.default_rng(0)
    params: Params = {}
    for parameter in (table := architecture.table(config)):
        noise = rng.standard_normal(table.shape(parameter), np.float32)
        params[parameter.path] = jnp.ones_like(noise) if len(parameter.shape) == 1 else jnp.asarray(0.04 * noise)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN), SPREAD, TEXTS), SHORTEST, LONGEST).astype(int)
    texts = [rng.integers(3, config.vocab_size, length).tolist() for length in lengths]
    batch = collate([[Tokens(text, 1)] for text in texts], length_groups(lengths), None, left=False)
    rows = packed(texts)

    def in_buckets(params: Params) -> Array:
        sums = jnp.zeros(TEXTS)
        for b in batch.buckets:
            own = sequence_log_likelihood(Stored(params), config, b.tokens, b.valid, b.counted, dtype=jnp.float32)
            sums = sums.at[b.index].set(own)
        return sums

    forms = {"buckets": jax.jit(in_buckets), "packed": jax.jit(lambda params: packed_likelihood(params, config, *rows))}
    shapes = {"buckets": [b.tokens.shape for b in batch.buckets], "packed": [rows[0].shape]}
    results: dict[str, dict[str, Any]] = {}
    programs, sums = {}, {}
    for name, form in forms.items():
        start = time.perf_counter()
        programs[name] = form.lower(params).compile()
        compiling = time.perf_counter() - start
        sums[name] = np.asarray(programs[name](params))
        places = sum(int(np.prod(shape)) for shape in shapes[name])
        results[name] = {
            "shapes": shapes[name],
            "padding": 1 - float(lengths.sum()) / places,
            "attention_scores": sum(rows * length**2 for rows, length in shapes[name]),
            "compile_seconds": compiling,
        }
    np.testing.assert_allclose(sums["packed"], sums["buckets"], rtol=1e-4)
    seconds = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            start = time.perf_counter()
            jax.block_until_ready(program(params))
            seconds[name].append(time.perf_counter() - start)
    for name, taken in seconds.items():
        results[name]["seconds"] = float(np.median(taken))
    ratio = np.median(np.array(seconds["packed"]) / np.array(seconds["buckets"]))
    write("packing", {"tokens": int(lengths.sum()), **results, "packed_over_buckets": float(ratio)})


if __name__ == "__main__":
    main()
