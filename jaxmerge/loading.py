"""`load`: a folder or a hub id to a module."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxmerge.models.module import CausalLM


def load(ref: str | Path, dtype: Any = None) -> "CausalLM":
    """Load a model as a flax.nnx module: `model(tokens)` gives logits, `model.generate(...)` text.

    ref: a Hugging Face or Flax folder, or a hub id with optional `@revision`; `model+lora` with a LoRA applied.
    dtype: of the parameters and of the forward pass. None keeps the parameters as they are stored and computes in
    bfloat16 on an accelerator, in float32 on a CPU.
    Raises InputError for a ref that is nowhere or of an unknown architecture, CheckpointError for a broken checkpoint.
    """
    import jax.numpy as jnp

    from jaxmerge.converters.model import load_model
    from jaxmerge.converters.reference import resolve
    from jaxmerge.models.module import CausalLM
    from jaxmerge.runtime.dtype import compute_dtype
    from jaxmerge.tokens.tokenizer import declared_eos_ids

    location = resolve(str(ref), relative_to=[Path()])
    stored = None if dtype is None else jnp.dtype(dtype)
    model = load_model(location, stored)
    return CausalLM(
        model.params,
        model.config,
        folder=location.folder,
        eos_ids=tuple(sorted(declared_eos_ids(location.folder))),
        dtype=stored or compute_dtype("auto"),
    )
