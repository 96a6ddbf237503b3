"""Merges that use each other: all are checked before the first is made, and only the last one stays."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from jaxmerge.converters.checkpoint import Checkpoint
from jaxmerge.converters.output_folder import folder_beside
from jaxmerge.converters.safetensors_header import TensorInfo
from jaxmerge.errors import JaxmergeError, joined
from jaxmerge.merging.stamp import stamp_of
from jaxmerge.merging.write import write, write_companions
from jaxmerge.recipe.chain import in_order, require_one_output
from jaxmerge.recipe.mistakes import mistakes
from jaxmerge.recipe.plan import Plan, make_plan
from jaxmerge.recipe.schema import Loaded


def plan_chain(recipes: Sequence[Loaded], **options: Any) -> tuple[Plan, ...]:
    """The plans in the order in which they are carried out; the last is the output's. options: `seed` and
    `allow_pickle` of `make_plan`.

    Raises InputError and CheckpointError for whatever is wrong with any of them."""
    named = {recipe.name for recipe, _ in recipes if recipe.name is not None} if len(recipes) > 1 else set()
    if wrong := [error for recipe, document in recipes for error in mistakes(recipe, document, named)]:
        raise joined(wrong)
    ordered = in_order(recipes)
    plans: list[Plan] = []
    made: dict[str, Checkpoint] = {}
    with TemporaryDirectory(prefix="jaxmerge-") as stand_ins, _named(made):
        for place, (recipe, document) in enumerate(ordered):
            plans.append(make_plan(recipe, document, made=made, **options))
            if recipe.name is not None and len(ordered) > 1:
                made[recipe.name] = _stand_in(plans[-1], Path(stand_ins) / str(place))
    require_one_output(ordered)
    return tuple(plans)


def _stand_in(plan: Plan, folder: Path) -> Checkpoint:
    """What a plan will make, without the weights."""
    folder.mkdir()
    write_companions(plan, folder)
    tensors = {tensor.name: TensorInfo(tensor.dtype, tensor.shape, folder, 0) for tensor in plan.tensors}
    return Checkpoint(folder, plan.config, tensors)


def write_chain(
    plans: Sequence[Plan], folder: Path, *, force: bool = False, resume: bool = False, **options: Any
) -> None:
    """Carry out the plans of `plan_chain`. resume: see `write`. options: those of `stream`, the shards' size for the
    output alone.

    What the output is made of lies in a folder beside it meanwhile."""
    *before, last = plans
    if not before:
        write(last, folder, force=force, resume=resume, **options)
        return
    made: dict[str, Checkpoint] = {}
    with folder_beside(folder, "merges", stamp=stamp_of(plans), resume=resume) as workshop, _named(made):
        for place, plan in enumerate(before):
            part = workshop / str(place)
            if not part.exists():
                write(_over(plan, made), part, resume=resume, progress=options.get("progress"))
            made[str(plan.recipe.name)] = Checkpoint.open(part)
        write(_over(last, made), folder, force=force, resume=resume, before=before, **options)


def _over(plan: Plan, made: Mapping[str, Checkpoint]) -> Plan:
    """The plan over what has been made, in place of stand-ins."""
    return make_plan(plan.recipe, plan.document, seed=plan.seed, made=made, allow_pickle=plan.allow_pickle)


@contextmanager
def _named(made: Mapping[str, Checkpoint]) -> Iterator[None]:
    """Errors name a merge as the recipe does, not by the folder where it lies for a while."""
    try:
        yield
    except JaxmergeError as error:
        text = str(error)
        for name, checkpoint in made.items():
            text = text.replace(str(checkpoint.folder), f"the merge '{name}'")
        raise type(error)(text) from error
