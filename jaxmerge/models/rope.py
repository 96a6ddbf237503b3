"""Rotary position embeddings as transformers computes them: default, linear, dynamic, yarn and llama3.

RoFormer (Su et al., 2021, arXiv:2104.09864); yarn: Peng et al., 2023, arXiv:2309.00071; dynamic: NTK-aware scaling that
depends on the length of the sequence; llama3: the piecewise scaling of Llama 3.1.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxmerge.architectures.config import DecoderConfig, Rope


def rotation(config: DecoderConfig, positions: Array, lengths: Array) -> tuple[Array, Array]:
    """Cosine and sine of every position's angles.

    positions: int32 `[B, T]`. lengths: int32 `[B]`, tokens of each sequence so far; only the dynamic type reads it.
    Gives two float32 arrays `[B, T, head_dim / 2]`.
    """
    rope = config.rope
    if rope.kind == "dynamic":
        frequencies, scale = _dynamic(config, lengths)[:, None, :], 1.0
    else:
        table, scale = _static(config)
        frequencies = jnp.asarray(table, jnp.float32)
    angles = positions[..., None].astype(jnp.float32) * frequencies
    return jnp.cos(angles) * scale, jnp.sin(angles) * scale


def rotate(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate the pairs (i, i + head_dim / 2) of `x` `[B, T, heads, head_dim]`; cos, sin: `[B, T, head_dim / 2]`."""
    cos, sin = cos[:, :, None, :].astype(x.dtype), sin[:, :, None, :].astype(x.dtype)
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)


def _exponents(head_dim: int) -> np.ndarray:
    return np.arange(0, head_dim, 2, dtype=np.float64) / head_dim


def _static(config: DecoderConfig) -> tuple[np.ndarray, float]:
    """Frequencies that do not depend on the sequence, float64 `[head_dim / 2]`, and the factor on cosine and sine."""
    rope = config.rope
    frequencies = rope.theta ** -_exponents(config.head_dim)
    if rope.kind == "default":
        return frequencies, 1.0
    if rope.kind == "linear":
        return frequencies / rope.option("factor"), 1.0
    if rope.kind == "llama3":
        return _llama3(rope, frequencies), 1.0
    if rope.kind == "yarn":
        return _yarn(rope, frequencies, config.head_dim), _yarn_scale(rope)
    raise ValueError(f"unknown rope type {rope.kind!r}")


def _dynamic(config: DecoderConfig, lengths: Array) -> Array:
    """The base grows with the part of the sequence beyond max_positions: `[B, head_dim / 2]`.

    transformers takes the longest sequence of the batch; here each takes its own, so that a score does not depend on
    the batch.
    """
    factor, dim, longest = config.rope.option("factor"), config.head_dim, config.max_positions
    length = jnp.maximum(lengths, longest).astype(jnp.float32)
    base = config.rope.theta * (factor * length / longest - (factor - 1)) ** (dim / (dim - 2))
    return 1.0 / base[:, None] ** jnp.asarray(_exponents(dim), jnp.float32)


def _llama3(rope: Rope, frequencies: np.ndarray) -> np.ndarray:
    """Short waves stay, long ones are stretched by `factor`, those between are blended."""
    factor, low, high = rope.option("factor"), rope.option("low_freq_factor"), rope.option("high_freq_factor")
    original = rope.option("original_max_position_embeddings")
    turns = original * frequencies / (2 * math.pi)
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1 - smooth) * frequencies / factor + smooth * frequencies


def _yarn(rope: Rope, frequencies: np.ndarray, dim: int) -> np.ndarray:
    """Dimensions that turn often stay, those that turn rarely are stretched, with a ramp between."""
    original = rope.option("original_max_position_embeddings")

    def dimension(turns: float) -> float:
        return dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(rope.theta))

    low, high = dimension(rope.option("beta_fast") or 32), dimension(rope.option("beta_slow") or 1)
    if rope.option("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dim - 1)
    if low == high:
        high += 0.001
    stretched = np.clip((np.arange(dim // 2) - low) / (high - low), 0.0, 1.0)
    return frequencies / rope.option("factor") * stretched + frequencies * (1 - stretched)


def _yarn_scale(rope: Rope) -> float:
    def magnitude(factor: float, mscale: float = 1.0) -> float:
        return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0

    given = rope.option("attention_factor")
    if given is not None:
        return float(given)
    factor, mscale, all_dim = rope.option("factor"), rope.option("mscale"), rope.option("mscale_all_dim")
    if mscale and all_dim:
        return magnitude(factor, mscale) / magnitude(factor, all_dim)
    return magnitude(factor)
