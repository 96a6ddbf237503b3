"""`jaxmerge.export`: a loaded (and perhaps trained) model back to a Hugging Face folder."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaxmerge.architectures.registry import architecture_of
from jaxmerge.converters.hf import save_params
from jaxmerge.converters.model import layout_of, open_model
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE
from jaxmerge.errors import InputError
from jaxmerge.runtime.dtype import DTYPES

if TYPE_CHECKING:
    from jaxmerge.models.module import CausalLM


def export(
    model: "CausalLM",
    out: str | Path,
    *,
    like: str | Path | None = None,
    dtype: str | None = None,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
    force: bool = False,
) -> Path:
    """Write a model as safetensors that `transformers` loads, and give back the folder.

    like: the folder that config.json, tokenizer, chat template and generation config are copied from; by default the
    one that the model was loaded from. dtype: float32, bfloat16 or float16; None keeps the parameters' own.
    force: replace `out`. The folder appears when it is complete. Raises InputError where there is nothing to copy from.
    """
    source = like if like is not None else model.folder
    if source is None:
        raise InputError("export: the model was not loaded from a folder; give like=FOLDER for config and tokenizer")
    if dtype is not None and dtype not in DTYPES:
        raise InputError(f"export: dtype '{dtype}' is none of {', '.join(DTYPES)}")
    original = open_model(source)
    config, _ = layout_of(original)
    # A LoRA may have parted embedding and head.
    if replace(config, tie_embeddings=model.config.tie_embeddings) != model.config:
        raise InputError(f"export: {source} has another architecture than the model; give like=FOLDER of the same")
    target: np.dtype | None = DTYPES[dtype] if dtype is not None else None
    save_params(
        model.weights.params,
        architecture_of(original.config).table(model.config),
        Path(out),
        like=original,
        dtype=target,
        max_shard_size=max_shard_size,
        force=force,
    )
    return Path(out)
