"""`CausalLM`: the flax.nnx skin over the functional decoder."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array
from jax.typing import DTypeLike

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.errors import InputError
from jaxmerge.models import decoder, generation
from jaxmerge.models.weights import Params, Stored

SHORTEST_PROMPT = 16


class CausalLM(nnx.Module):
    """A decoder that can be called, trained with optax, and asked for text.

    Its parameters are `nnx.Param` leaves of one flat mapping, `params`, by path, stacked over layers (see
    `architectures.table`). Split it once at the edge of a training step (`nnx.value_and_grad`, `nnx.Optimizer`, or
    `nnx.split` for `jax.grad`).

    params: flat parameters. config: the sizes. folder: where they and the tokenizer came from, or None. eos_ids: tokens
    that end a text, besides the tokenizer's. dtype: the compute dtype; by default that of the embedding.
    """

    def __init__(
        self,
        params: Params,
        config: DecoderConfig,
        *,
        folder: Path | None = None,
        eos_ids: tuple[int, ...] = (),
        dtype: DTypeLike | None = None,
    ) -> None:
        self.params = nnx.Dict({path: nnx.Param(array) for path, array in params.items()})
        self.config = config
        self.folder = folder
        self.eos_ids = eos_ids
        self.dtype = jnp.dtype(dtype or params["embed_tokens.weight"].dtype)

    @property
    def weights(self) -> Stored:
        """The parameters as the functional decoder takes them."""
        return Stored({path: param[...] for path, param in self.params.items()})

    @property
    def tokenizer(self) -> Any:
        """transformers' tokenizer of the folder, loaded on first use; InputError where there is none."""
        if self.folder is None:
            raise InputError("this model was not loaded from a folder and has no tokenizer; pass token ids")
        return _tokenizer(self.folder)

    def __call__(self, tokens: Array, valid: Array | None = None) -> Array:
        """Logits `[B, T, vocab]`, float32, of int32 tokens `[B, T]`; valid bool `[B, T]` is False at padding."""
        tokens = jnp.asarray(tokens, jnp.int32)
        valid = jnp.ones(tokens.shape, bool) if valid is None else jnp.asarray(valid, bool)
        return _logits(self.weights, self.config, tokens, valid, dtype=self.dtype)

    def generate(
        self,
        prompts: str | Sequence[str] | Array | np.ndarray,
        valid: Array | np.ndarray | None = None,
        *,
        max_new_tokens: int = 64,
        stop_ids: tuple[int, ...] | None = None,
        key: Array | None = None,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Any:
        """Continue prompts, greedily unless a key and a temperature above 0 are given.

        A text gives a text and a list of texts a list, special tokens left out. int32 tokens `[B, T]` (with valid bool
        `[B, T]` where they are padded, on either side) give int32 `[B, max_new_tokens]`, -1 from the first stop id on.
        stop_ids: by default the model's end-of-text ids.
        """
        given = [prompts] if isinstance(prompts, str) else prompts
        texts = [text for text in given if isinstance(text, str)]
        ends = self.eos_ids if stop_ids is None else stop_ids
        if texts:
            tokens, valid = left_padded([self.tokenizer(text)["input_ids"] for text in texts])
            eos = self.tokenizer.eos_token_id
            ends = (*ends, eos) if stop_ids is None and eos is not None else ends
        else:
            tokens = np.asarray(prompts, np.int32)
            if tokens.ndim != 2:
                raise InputError(f"prompts must be texts, or tokens of shape [B, T]; got shape {list(tokens.shape)}")
            valid = np.ones(tokens.shape, bool) if valid is None else np.asarray(valid, bool)
        output = _generate(
            self.weights,
            self.config,
            jnp.asarray(tokens),
            jnp.asarray(valid),
            key,
            max_new_tokens=max_new_tokens,
            stop_ids=tuple(sorted(set(ends))),
            dtype=self.dtype,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
        if not texts:
            return output
        written = [
            self.tokenizer.decode([token for token in row if token >= 0], skip_special_tokens=True)
            for row in np.asarray(output).tolist()
        ]
        return written[0] if isinstance(prompts, str) else written


def left_padded(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Prompts as int32 tokens and bool valid, padded on the left to a power of two, so that few shapes are compiled."""
    width = SHORTEST_PROMPT
    while width < max((len(row) for row in rows), default=0):
        width *= 2
    tokens, valid = np.zeros((len(rows), width), np.int32), np.zeros((len(rows), width), bool)
    for i, row in enumerate(rows):
        if not row:
            raise InputError(f"prompt {i} has no tokens; give it at least one")
        tokens[i, width - len(row) :] = row
        valid[i, width - len(row) :] = True
    return tokens, valid


@lru_cache(maxsize=8)
def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"{folder}: its tokenizer cannot be read: {reason}") from error


# Compiled here, so that a call outside jit compiles once a shape and not once a call.
_logits = jax.jit(decoder.logits, static_argnames=("config", "dtype"))


@partial(
    jax.jit,
    static_argnames=("config", "max_new_tokens", "stop_ids", "dtype", "temperature", "top_k", "top_p"),
)
def _generate(
    weights: Stored, config: DecoderConfig, tokens: Array, valid: Array, key: Array | None, **options: Any
) -> Array:
    # Once, not in every step.
    weights = jax.tree.map(lambda array: array.astype(options["dtype"]), weights)
    return generation.generate(weights, config, tokens, valid, key=key, **options)
