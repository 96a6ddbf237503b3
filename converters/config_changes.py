"""Changes to a copied config.json: what a merge changed, and nothing else."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.converters.checkpoint import CONFIG, read_config


def changed_config(
    config: dict[str, Any],
    *,
    num_layers: int | None = None,
    layers: Sequence[int] | None = None,
    vocab_size: int | None = None,
    tied: bool | None = None,
    dtype: np.dtype | None = None,
) -> dict[str, Any]:
    """A copy of `config` in which only these facts are set where it says otherwise; the order of keys stays.

    layers: for each layer the one of `config` it stands for; lists with a value a layer (`layer_types`, ...)
    follow it. Without it, they are cut at the end or their last value is repeated. dtype: what transformers
    loads the weights in; written under the name the config has for it.
    """
    changed = dict(config)
    old = config.get("num_hidden_layers")
    if layers is None and num_layers not in (None, old) and isinstance(old, int):
        layers = [min(layer, old - 1) for layer in range(num_layers)]
    if layers is not None:
        for key, value in config.items():
            if "layer" in key and isinstance(value, list) and len(value) == old:
                changed[key] = [value[layer] for layer in layers]
        changed["num_hidden_layers"] = len(layers)
    if vocab_size is not None and config.get("vocab_size") != vocab_size:
        changed["vocab_size"] = vocab_size
    if tied is not None and config.get("tie_word_embeddings", False) != tied:
        changed["tie_word_embeddings"] = tied
    if dtype is not None:
        for key in ("dtype", "torch_dtype"):
            if key in config:
                changed[key] = np.dtype(dtype).name
    return changed


def settle_config(config: dict[str, Any], folder: Path) -> None:
    """Write config.json, unless the folder has it so already: a copy keeps its bytes."""
    if read_config(folder) != config:
        write_config(config, folder / CONFIG)


def write_config(config: dict[str, Any], file: Path) -> None:
    """Write config.json as transformers does: two spaces, one line at the end."""
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
