"""Trains the miniature's models: `python -m jaxmerge.demo.train [FOLDER]`, what `make demo-models` calls.

A base learns words and notation for some minutes, then each expert learns from it for seconds. Everything is
fixed by the seed: the same machine gives the same models.
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
from jax import Array

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.registry import architecture_of
from jaxmerge.architectures.table import Table
from jaxmerge.converters.hf import save_params
from jaxmerge.demo import curriculum, data, tokenizer
from jaxmerge.models.decoder import hidden_states
from jaxmerge.models.initial import initial_params
from jaxmerge.models.weights import Params, Stored

CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": len(tokenizer.VOCABULARY),
    "hidden_size": 64,
    "intermediate_size": 176,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 16,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "pad_token_id": tokenizer.VOCABULARY[tokenizer.PAD],
    "bos_token_id": tokenizer.VOCABULARY[tokenizer.BOS],
    "eos_token_id": tokenizer.VOCABULARY[tokenizer.EOS],
    "dtype": "bfloat16",
    "torch_dtype": "bfloat16",
}
LENGTHS = (16, 22, 36)  # examples are padded to the next of these


@dataclass(frozen=True)
class Lesson:
    """How one model is trained. prompt: the weight of a prompt's tokens in the loss, an answer's being 1."""

    steps: int
    batch: int
    prompt: float
    optimizer: Callable[[int], optax.GradientTransformation]


@dataclass(frozen=True)
class Rows:
    """Examples of one padded length, with the steps as leading axis: tokens int32 `[S, B, T]`, valid bool
    `[S, B, T]`, weights float32 `[S, B, T]` of each token as a target (0 at the first one and at padding)."""

    tokens: np.ndarray
    valid: np.ndarray
    weights: np.ndarray


def _muon(steps: int) -> optax.GradientTransformation:
    """Muon for the matrices of the layers, Adam for the embedding and the norms (Jordan et al., 2024)."""

    def matrices(params: Params) -> dict[str, optax.contrib.MuonDimensionNumbers | None]:
        stacked = optax.contrib.MuonDimensionNumbers(reduction_axis=2, output_axis=1)
        return {path: stacked if path.endswith("_proj.weight") else None for path in params}

    def schedule(peak: float) -> optax.Schedule:
        return optax.warmup_cosine_decay_schedule(0.0, peak, steps // 20, steps, peak / 50)

    return optax.contrib.muon(schedule(0.02), adam_learning_rate=schedule(3e-3), muon_weight_dimension_numbers=matrices)


def _adamw(steps: int) -> optax.GradientTransformation:
    return optax.adamw(optax.cosine_decay_schedule(1e-3, steps), weight_decay=0.0)


LESSONS = {
    "base": Lesson(1400, 80, 0.15, _muon),
    "math": Lesson(130, 48, 0.0, _adamw),
    "ja": Lesson(150, 48, 0.0, _adamw),
    "sort": Lesson(150, 48, 0.0, _adamw),
}


def initial(table: Table, seed: int) -> Params:
    """A model before training, float32. What a layer adds to the residual stream starts at zero and the tied
    embedding is large (std 0.3): the base then learns early to copy numbers from one language to the
    other."""
    outputs = ("layers.self_attn.o_proj.weight", "layers.mlp.down_proj.weight")
    return initial_params(table, jax.random.key(seed), embedding_std=0.3, std=0.125, zero=outputs)


def rows(examples: Sequence[curriculum.Example], lesson: Lesson) -> list[Rows]:
    """All examples of a lesson, sorted by padded length; each step gets its share of every length."""
    encode = tokenizer.build().encode
    buckets: dict[int, list[tuple[list[int], int]]] = {length: [] for length in LENGTHS}
    for prompt, answer in examples:
        start, tokens = len(encode(prompt).ids), encode(f"{prompt} {answer}").ids
        tokens.append(tokenizer.VOCABULARY[tokenizer.EOS])
        buckets[next(length for length in LENGTHS if len(tokens) <= length)].append((tokens, start))
    result = []
    for length, bucket in buckets.items():
        share = len(bucket) // lesson.steps
        if share == 0:
            continue
        ids = np.zeros((lesson.steps * share, length), np.int32)
        weights = np.zeros(ids.shape, np.float32)
        for row, (tokens, start) in enumerate(bucket[: len(ids)]):
            ids[row, : len(tokens)] = tokens
            weights[row, 1:start] = lesson.prompt
            weights[row, start : len(tokens)] = 1.0
        shape = (lesson.steps, share, length)
        result.append(Rows(ids.reshape(shape), (ids != 0).reshape(shape), weights.reshape(shape)))
    return result


def loss(params: Params, config: DecoderConfig, batch: Sequence[tuple[Array, Array, Array]]) -> Array:
    """Weighted mean of the negative log-likelihood (nats) over all lengths of a batch."""
    total = weight = jnp.zeros(())
    for tokens, valid, weights in batch:
        states = hidden_states(Stored(params), config, tokens, valid, dtype=jnp.float32)
        logits = states[:, :-1] @ params["embed_tokens.weight"].T
        nats = optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:])
        total += (nats * weights[:, 1:]).sum()
        weight += weights.sum()
    return total / weight


def fit(
    params: Params,
    config: DecoderConfig,
    lesson: Lesson,
    examples: Iterator[curriculum.Example],
    log: Callable[[str], None],
) -> Params:
    """Train a model through a lesson, with a line to `log` every hundred steps."""
    parts = rows(list(itertools.islice(examples, lesson.steps * lesson.batch)), lesson)
    optimizer = lesson.optimizer(lesson.steps)

    @jax.jit
    def step(
        params: Params, state: optax.OptState, batch: list[tuple[Array, Array, Array]]
    ) -> tuple[Params, optax.OptState, Array]:
        value, gradients = jax.value_and_grad(loss)(params, config, batch)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    for at in range(lesson.steps):
        batch = [(part.tokens[at], part.valid[at], part.weights[at]) for part in parts]
        params, state, value = step(params, state, batch)
        if (at + 1) % 100 == 0 or at + 1 == lesson.steps:
            log(f"  step {at + 1}: loss {float(value):.4f}")
    return params


def train(seed: int, log: Callable[[str], None] = print) -> dict[str, Params]:
    """The base and its experts, float32."""
    architecture = architecture_of(CONFIG)
    config = architecture.read(CONFIG)
    models: dict[str, Params] = {}
    for name, lesson in LESSONS.items():
        start = models.get("base") or initial(architecture.table(config), seed)
        log(f"training {name}: {lesson.steps} steps of {lesson.batch} examples")
        models[name] = fit(start, config, lesson, curriculum.lessons(name, seed), log)
    return models


@dataclass(frozen=True)
class _Companions:
    """The files beside the weights, as `save_params` copies them."""

    folder: Path
    config: dict[str, Any]


def save(models: dict[str, Params], folder: Path) -> None:
    """Write each model as a folder in bfloat16 that transformers loads as a LlamaForCausalLM."""
    table = architecture_of(CONFIG).table(architecture_of(CONFIG).read(CONFIG))
    generation = {key: CONFIG[key] for key in ("pad_token_id", "bos_token_id", "eos_token_id")}
    with tempfile.TemporaryDirectory() as temporary:
        beside = _Companions(Path(temporary), CONFIG)
        for name, content in {"config.json": CONFIG, "generation_config.json": generation}.items():
            (beside.folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        tokenizer.write(beside.folder)
        for name, params in models.items():
            save_params(params, table, folder / name, like=beside, dtype=np.dtype(ml_dtypes.bfloat16), force=True)


def main(folder: Path) -> None:
    """Write `data` and `models` into a folder."""
    data.write(folder / "data")
    save(train(seed=0), folder / "models")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
