"""The rows of routers: the direction in a layer's input in which an expert's prompts lie."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.finite import require_finite
from jaxmerge.converters.hf import load_params
from jaxmerge.converters.model import layout_of
from jaxmerge.errors import InputError
from jaxmerge.merging.experts.recipe import Expert
from jaxmerge.models.decoder import embedded, layer_of, layer_step
from jaxmerge.models.module import left_padded
from jaxmerge.models.weights import Stored
from jaxmerge.tokens.tokenizer import Tokenizer, named_tokens

BATCH = 8


def rows_by_states(base: Checkpoint, experts: Sequence[Expert]) -> np.ndarray:
    """`[layers, experts, hidden]`, float32 unit vectors: the mean, over an expert's positive prompts, of the state of
    the last token that enters the layer, less that of its negative ones. Computed in float32."""
    config, table = layout_of(base)
    weights = Stored(load_params(base, table))
    tokens = [_encode(base, [p for prompts in expert.prompts for p in prompts]) for expert in experts]
    every = [ids for own in tokens for ids in own]
    states = [_states(weights, config, every[start : start + BATCH]) for start in range(0, len(every), BATCH)]
    found, start, joined = [], 0, np.concatenate(states, axis=1)
    for expert, own in zip(experts, tokens, strict=True):
        mine = joined[:, start : start + len(own)]
        start += len(own)
        positive = len(expert.prompts[0])
        row = mine[:, :positive].mean(axis=1)
        found.append(row - mine[:, positive:].mean(axis=1) if len(own) > positive else row)
    return _unit(np.stack(found, axis=1))


def rows_by_embeddings(base: Checkpoint, experts: Sequence[Expert]) -> np.ndarray:
    """The same for all layers, of the sum of the prompts' embeddings, unit vectors before one is taken from the other.
    """
    config, table = layout_of(base)
    name = table["embed_tokens.weight"].hf
    embedding = base.read(name)
    require_finite(f"{base.info(name).file}: tensor '{name}'", embedding)
    found = []
    for expert in experts:
        positive, negative = (_encode(base, prompts) for prompts in expert.prompts)
        row = _unit(_sum(embedding, positive))
        found.append(row - _unit(_sum(embedding, negative)) if negative else row)
    return np.repeat(_unit(np.stack(found))[None], config.num_layers, axis=0)


def _encode(base: Checkpoint, prompts: Sequence[str]) -> list[list[int]]:
    """Tokens of each prompt behind the token that begins a text, where the tokenizer has one."""
    if not prompts:
        return []
    tokenizer = Tokenizer.open(base.folder)
    begin = named_tokens(base.folder).get("bos_token")
    first = tokenizer.token_id(begin) if begin is not None else None
    encoded = tokenizer.encode_all(list(prompts), special=False)
    for prompt, ids in zip(prompts, encoded, strict=True):
        if not ids:
            raise InputError(f"the prompt {prompt!r} has no tokens; leave it out")
    return [ids if first is None else [first, *ids] for ids in encoded]


def _states(weights: Stored, config: DecoderConfig, rows: list[list[int]]) -> np.ndarray:
    # Filled up, so that few shapes are compiled.
    tokens, valid = left_padded([*rows, *[rows[0]] * (BATCH - len(rows))])
    return np.asarray(_layer_inputs(weights, config, jnp.asarray(tokens), jnp.asarray(valid)))[:, : len(rows)]


@partial(jax.jit, static_argnames="config")
def _layer_inputs(weights: Stored, config: DecoderConfig, tokens: Array, valid: Array) -> Array:
    """What goes into each layer at the last place: `[layers, B, hidden]`, float32."""
    apply = layer_step(config, valid)

    def step(x: Array, index: Array) -> tuple[Array, Array]:
        return apply(layer_of(weights, index, jnp.float32), weights.place(index), x), x[:, -1]

    return lax.scan(step, embedded(weights, config, tokens, jnp.float32), jnp.arange(weights.depth))[1]


def _sum(embedding: np.ndarray, prompts: list[list[int]]) -> np.ndarray:
    return embedding[[i for ids in prompts for i in ids]].astype(np.float32).sum(axis=0)


def _unit(rows: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not norm.all():
        raise InputError("an expert's positive and negative prompts are the same to the base; change them")
    return (rows / norm).astype(np.float32)
