"""`merge`: a mergekit recipe in, a Hugging Face folder out."""

from pathlib import Path
from typing import Any

from jaxmerge.converters.checkpoint import CONFIG
from jaxmerge.converters.companions import copy_companions
from jaxmerge.converters.config_changes import write_config
from jaxmerge.converters.output_folder import output_folder, require_absent
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE
from jaxmerge.merging.card import write_card
from jaxmerge.merging.tokenizer import write_tokenizer
from jaxmerge.recipe.plan import Plan, make_plan
from jaxmerge.recipe.schema import load_recipe


def merge(
    recipe: str | Path | dict[str, Any],
    out: str | Path,
    *,
    seed: int | None = None,
    force: bool = False,
    max_shard_size: int | str = DEFAULT_SHARD_SIZE,
) -> Path:
    """Merge models by a recipe and return the folder, which `transformers` loads.

    recipe: a file of mergekit YAML, or the same as a mapping. Relative model paths are tried in the working
    directory, then in the recipe's folder. seed: of random masks; without it the recipe's `jaxmerge.seed`, else 0.
    force: replace `out`. The folder appears when it is complete; on any error nothing is left of it. Raises
    InputError for what is wrong with the recipe or `out`, CheckpointError for models that cannot be read or
    merged.
    """
    folder = Path(out)
    require_absent(folder, force=force)
    plan = make_plan(*load_recipe(recipe), seed=seed)
    write(plan, folder, force=force, max_shard_size=max_shard_size)
    return folder


def write(plan: Plan, folder: Path, *, force: bool = False, **options: Any) -> None:
    """Carry out a plan. options: those of `stream`."""
    from jaxmerge.merging.stream import stream

    with output_folder(folder, force=force) as part:
        stream(plan, part, **options)
        source = plan.models[plan.like]
        copy_companions(source.folder, part)
        if plan.config != source.config:
            write_config(plan.config, part / CONFIG)
        write_tokenizer(plan, part)
        write_card(plan, part)
