"""One merge carried out: tensors, config, tokenizer, card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxmerge.converters.companions import copy_companions
from jaxmerge.converters.config_changes import settle_config
from jaxmerge.converters.output_folder import output_folder
from jaxmerge.converters.writer import DEFAULT_SHARD_SIZE
from jaxmerge.merging.card import write_card
from jaxmerge.merging.stamp import stamp_of
from jaxmerge.merging.tokenizer import write_tokenizer
from jaxmerge.recipe.plan import Plan


def write(
    plan: Plan,
    folder: Path,
    *,
    force: bool = False,
    resume: bool = False,
    before: Sequence[Plan] = (),
    **options: Any,
) -> None:
    """Carry out a plan. resume: go on at the first shard that a run of the same plan did not finish, and keep finished
    ones where this is interrupted. before: the plans of the merges that it uses. options: those of `stream`."""
    from jaxmerge.merging.stream import stream

    stamp = stamp_of([plan], options.get("max_shard_size", DEFAULT_SHARD_SIZE))
    with output_folder(folder, force=force, stamp=stamp, resume=resume) as part:
        stream(plan, part, **options)
        write_companions(plan, part)
        write_card((*before, plan), part)


def write_companions(plan: Plan, folder: Path) -> None:
    """All but tensors and card: config.json, tokenizer, and what else the model that the output is like has."""
    source = plan.models[plan.like]
    copy_companions(source.folder, folder)
    settle_config(plan.config, folder)
    write_tokenizer(plan, folder)
