"""Where a checkpoint's layers are, found by its tensor names, so that any architecture merges.

The numbers in `model.layers.3.mlp.up_proj.weight` or `encoder.layer.3.output.dense.weight` say which layer a tensor
belongs to; a run of names with the numbers 0, 1, ... n - 1 after one prefix is a stack.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.errors import CheckpointError

DEPTH_KEYS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)
# What stands before the layers; all else that is in no layer stands behind them.
EMBEDDING = re.compile(r"(^|[._])(embed|embd|wte|wpe|word_embeddings|position_embeddings)", re.IGNORECASE)
OUTPUT_EMBEDDING = "embed_out"


@dataclass(frozen=True)
class Layers:
    """The stacks of a checkpoint: depth of each by its prefix, such as `{"model.layers.": 32}`."""

    stacks: dict[str, int]

    def split(self, name: str) -> tuple[str, int, str] | None:
        """`("model.layers.", 3, ".mlp.up_proj.weight")`, or None for a tensor that is in no layer."""
        for prefix in self.stacks:
            if name.startswith(prefix):
                number, dot, rest = name[len(prefix) :].partition(".")
                if number.isdigit():
                    return prefix, int(number), dot + rest
        return None

    def place(self, name: str) -> int | None:
        found = self.split(name)
        return None if found is None else found[1]


def find_layers(checkpoint: Checkpoint) -> Layers:
    """The stacks that config.json speaks of, or the deepest one where it is silent.

    Raises CheckpointError where the number of layers in config.json is not that of the tensors.
    """
    numbers: dict[str, set[int]] = defaultdict(set)
    for name in checkpoint.tensors:
        if match := re.match(r"((?:[^.]*\.)*?)(\d+)(?:\.|$)", name):
            numbers[match[1]].add(int(match[2]))
    stacks = {prefix: len(found) for prefix, found in numbers.items() if max(found) == len(found) - 1}
    told = _told_depths(checkpoint.config)
    matching = {prefix: depth for prefix, depth in stacks.items() if depth in told}
    if matching:
        return Layers(matching)
    if numbers and (expected := checkpoint.config.get("num_hidden_layers")) is not None:
        prefix = max(numbers, key=lambda p: len(numbers[p]))
        missing = set(range(int(expected))) - numbers[prefix]
        what = f"layer {min(missing)} is missing" if missing else f"the tensors have {max(numbers[prefix]) + 1}"
        raise CheckpointError(
            f"{checkpoint.folder}: config.json says num_hidden_layers {expected}, but in {prefix}* {what}; "
            "correct config.json or fetch the weights again"
        )
    return Layers({prefix: depth for prefix, depth in stacks.items() if depth == max(stacks.values())})


def _told_depths(config: dict[str, Any]) -> set[int]:
    parts = [config, *(value for value in config.values() if isinstance(value, dict))]
    told = {part[key] for part in parts for key in DEPTH_KEYS if isinstance(part.get(key), int)}
    # Layers that predict further tokens (DeepSeek, GLM) stand behind the last one.
    extra = config.get("num_nextn_predict_layers") or 0
    return told | {depth + extra for depth in told}


def natural(name: str) -> tuple[Any, ...]:
    """Sort key: numbers inside names by their value."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name))


def is_embedding(name: str) -> bool:
    """Whether a tensor outside the layers stands before them."""
    return EMBEDDING.search(name) is not None and OUTPUT_EMBEDDING not in name


def in_model_order(names: Iterable[str], layers: Layers) -> list[str]:
    """Embeddings, the layers by number, then norm and head."""

    def key(name: str) -> tuple[Any, ...]:
        inside = layers.split(name) is not None
        return (0 if is_embedding(name) and not inside else 1 if inside else 2, natural(name))

    return sorted(names, key=key)
