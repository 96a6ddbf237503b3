"""What the decoder families share: the sizes of their config.json and the rows of their table."""

from typing import Any

from jaxmerge.architectures.config import DecoderConfig
from jaxmerge.architectures.reading import activation, positive_float, positive_int, switch
from jaxmerge.architectures.rope import read_rope
from jaxmerge.architectures.table import LAYERS, Parameter, Table
from jaxmerge.errors import InputError


def read_decoder(
    config_json: dict[str, Any],
    family: str,
    *,
    max_positions: int,
    windows: tuple[int | None, ...] | None = None,
    head_dim: int | None = None,
    num_kv_heads: int | None = None,
    qkv_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: bool = False,
) -> DecoderConfig:
    """A DecoderConfig from the keys that all families share.

    max_positions, head_dim, num_kv_heads: the family's defaults where config.json has no such key; a head_dim of
    None is hidden_size / num_attention_heads, a num_kv_heads of None the number of heads. windows: None is full
    attention in every layer. An impossible size is an InputError that names the key.
    """
    hidden_size = positive_int(config_json, "hidden_size")
    num_heads = positive_int(config_json, "num_attention_heads")
    num_kv_heads = positive_int(config_json, "num_key_value_heads", num_kv_heads or num_heads)
    num_layers = positive_int(config_json, "num_hidden_layers")
    max_positions = positive_int(config_json, "max_position_embeddings", max_positions)
    if num_heads % num_kv_heads:
        raise InputError(
            f"config.json: 'num_attention_heads' is {num_heads}; it must be a multiple of "
            f"'num_key_value_heads', {num_kv_heads}"
        )
    if config_json.get("head_dim") is None and head_dim is None and hidden_size % num_heads:
        raise InputError(
            f"config.json: 'hidden_size' is {hidden_size}; it must be a multiple of 'num_attention_heads', {num_heads}"
        )
    head_dim = positive_int(config_json, "head_dim", head_dim or hidden_size // num_heads)
    if head_dim % 2:
        raise InputError(f"config.json: 'head_dim' is {head_dim}; rotary positions need an even number")
    return DecoderConfig(
        family=family,
        vocab_size=positive_int(config_json, "vocab_size"),
        hidden_size=hidden_size,
        intermediate_size=positive_int(config_json, "intermediate_size"),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=head_dim,
        norm_eps=positive_float(config_json, "rms_norm_eps", 1e-6),
        rope=read_rope(config_json, max_positions),
        max_positions=max_positions,
        windows=windows or (None,) * num_layers,
        activation=activation(config_json),
        qkv_bias=qkv_bias,
        output_bias=output_bias,
        mlp_bias=mlp_bias,
        qk_norm=qk_norm,
        tie_embeddings=switch(config_json, "tie_word_embeddings", False),
    )


def decoder_table(config: DecoderConfig) -> Table:
    """The parameters of a pre-norm decoder, in the order of the forward pass."""
    hidden, mlp = (config.hidden_size, "embed"), (config.intermediate_size, "mlp")
    heads = (config.num_heads * config.head_dim, "heads")
    kv_heads = (config.num_kv_heads * config.head_dim, "kv_heads")
    head_dim, vocab = (config.head_dim, "head_dim"), (config.vocab_size, "vocab")
    rows: list[Parameter] = []

    def row(path: str, *dims: tuple[int, str]) -> None:
        hf = f"model.layers.{{layer}}.{path.removeprefix(LAYERS)}" if path.startswith(LAYERS) else f"model.{path}"
        shape, axes = tuple(size for size, _ in dims), tuple(axis for _, axis in dims)
        rows.append(Parameter(path, hf if path != "lm_head.weight" else path, shape, axes))

    def linear(path: str, out: tuple[int, str], inner: tuple[int, str], bias: bool) -> None:
        row(f"{path}.weight", out, inner)
        if bias:
            row(f"{path}.bias", out)

    row("embed_tokens.weight", vocab, hidden)
    row("layers.input_layernorm.weight", hidden)
    linear("layers.self_attn.q_proj", heads, hidden, config.qkv_bias)
    linear("layers.self_attn.k_proj", kv_heads, hidden, config.qkv_bias)
    linear("layers.self_attn.v_proj", kv_heads, hidden, config.qkv_bias)
    if config.qk_norm:
        row("layers.self_attn.q_norm.weight", head_dim)
        row("layers.self_attn.k_norm.weight", head_dim)
    linear("layers.self_attn.o_proj", hidden, heads, config.output_bias)
    row("layers.post_attention_layernorm.weight", hidden)
    linear("layers.mlp.gate_proj", mlp, hidden, config.mlp_bias)
    linear("layers.mlp.up_proj", mlp, hidden, config.mlp_bias)
    linear("layers.mlp.down_proj", hidden, mlp, config.mlp_bias)
    row("norm.weight", hidden)
    if not config.tie_embeddings:
        row("lm_head.weight", vocab, hidden)
    return Table(tuple(rows), config.num_layers)
