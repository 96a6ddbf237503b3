"""What a decoder is, in numbers: read from a checkpoint's config.json by its family, used by the forward pass."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Rope:
    """Rotary position embedding. `kind` is transformers' `rope_type`: default, linear, dynamic, yarn or llama3;
    `options` holds the further keys of `rope_parameters` as sorted (name, value) pairs, so that it can be hashed."""

    theta: float
    kind: str = "default"
    options: tuple[tuple[str, Any], ...] = ()

    def option(self, name: str, default: Any = None) -> Any:
        return dict(self.options).get(name, default)


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and switches of a pre-norm decoder with rotary positions. Hashable: it is a static argument of jit.

    windows: for each layer the sliding window in tokens, or None for full attention. norm_offset: what is added to the
    weights of all norms. embed_scale: what embeddings are multiplied by before the first layer; None: nothing.
    """

    family: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    norm_eps: float
    rope: Rope
    max_positions: int
    windows: tuple[int | None, ...]
    activation: str = "silu"
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tie_embeddings: bool = False
    norm_offset: float = 0.0
    embed_scale: float | None = None
    extra: tuple[tuple[str, Any], ...] = field(default=())
