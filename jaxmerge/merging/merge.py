"""`merge`: a mergekit recipe in, a Hugging Face folder out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxmerge.converters.output_folder import require_absent, require_apart
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE
from jaxmerge.merging.chain import plan_chain, write_chain
from jaxmerge.recipe.schema import load_recipes


def merge(
    recipe: str | Path | dict[str, Any] | Sequence[dict[str, Any]],
    out: str | Path,
    *,
    seed: int | None = None,
    force: bool = False,
    resume: bool = False,
    allow_pickle: bool = False,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
) -> Path:
    """Merge models by a recipe and return the folder, which `transformers` loads.

    recipe: a file of mergekit YAML, or the same as a mapping; where it has several documents, or is a list of mappings,
    they are merges that use each other by name, and the one that no other uses is `out`. Relative model paths are tried
    in the working directory, then in the recipe's folder. seed: of random masks; without it the recipe's
    `jaxmerge.seed`, else 0.
    force: replace `out`. resume: go on with the shards that a merge of the same left which was killed, and leave them
    where this one is; the bits are the same. allow_pickle: read pytorch_model.bin where a model has no safetensors,
    tensors only. The folder appears when it is complete; on any error nothing is left of it without `resume`. Raises
    InputError for what is wrong with the recipe or `out`, CheckpointError for models that cannot be read or merged.
    """
    folder = Path(out)
    require_absent(folder, force=force)
    plans = plan_chain(load_recipes(recipe), seed=seed, allow_pickle=allow_pickle)
    require_apart(folder, [model.location for plan in plans for model in plan.models])
    write_chain(plans, folder, force=force, resume=resume, max_shard_size=max_shard_size)
    return folder
