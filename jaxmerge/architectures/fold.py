"""A scaled stream as an ordinary model of pre-norm blocks.

Let `c_t` be the product of the scales on the way into layer t. Keep the stream divided by it: then what a block adds is
divided by `c_t`, and the norms, which see the stream with its sign only, are negated where `c_t` is negative. What
remains different is the epsilon in the norms. Norms that add an offset to their weights cannot be negated, so there
scales must be positive.
"""

from typing import Literal

# What a block adds to the stream: weights and biases.
OUTPUTS = ("layers.self_attn.o_proj", "layers.mlp.down_proj")
NORMS = ("layers.input_layernorm.weight", "layers.post_attention_layernorm.weight")
FINAL_NORM = "norm.weight"

Part = Literal["output", "norm", "final norm"]


def part_of(path: str) -> Part | None:
    """What a scale does to a parameter: an output is multiplied by `1 / c_t`, a norm by its sign, the final norm by
    that of the last layer. None: it stays as it is."""
    if path.rpartition(".")[0] in OUTPUTS:
        return "output"
    if path in NORMS:
        return "norm"
    return "final norm" if path == FINAL_NORM else None
