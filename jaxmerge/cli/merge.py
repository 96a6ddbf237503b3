"""`jaxmerge merge`: mergekit YAML in, HF folder out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from jaxmerge.recipe.plan import Plan


def command(
    recipe: Annotated[Path, typer.Argument(help="The recipe, mergekit's YAML.", metavar="RECIPE.yaml")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; it appears when it is complete.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="With --dry-run: a line for every tensor.")] = False,
    explained: Annotated[
        str | None,
        typer.Option(
            "--explain",
            metavar="PATTERN",
            help="A dry run that says all of the tensors whose names match: operator, sources, parameters of each.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of random masks (DARE); default: the recipe's.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the shards that a killed merge left; keep them if interrupted.")
    ] = False,
    allow_pickle: Annotated[
        bool, typer.Option("--allow-pickle", help="Read pytorch_model.bin too, as tensors only.")
    ] = False,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", metavar="SIZE", help="Of a file of weights, such as 512MB.")
    ] = "5GB",
) -> None:
    """Merge models by a recipe into a Hugging Face folder."""
    from jaxmerge.converters.output_folder import require_absent, require_apart
    from jaxmerge.merging.chain import plan_chain, write_chain
    from jaxmerge.recipe.schema import load_recipes

    require_absent(out, force=force)
    plans = plan_chain(load_recipes(recipe), seed=seed, allow_pickle=allow_pickle)
    require_apart(out, [model.location for plan in plans for model in plan.models])
    if explained is not None:
        from jaxmerge.merging.explain import explain

        typer.echo("\n".join(explain(plans, explained)))
        return
    if dry_run:
        typer.echo("\n\n".join(_summary(plan, named=len(plans) > 1, verbose=verbose) for plan in plans))
        return

    from jaxmerge.cli.progress import bar

    with bar(plans[-1].operator.name) as progress:
        write_chain(plans, out, force=force, resume=resume, max_shard_size=max_shard_size, progress=progress)
    typer.echo(f"{out}: {len(plans[-1].tensors)} tensors, {_size(plans[-1].nbytes)}")


def _summary(plan: "Plan", *, named: bool, verbose: bool) -> str:
    """named: whether the plan is one of several. verbose: a line a tensor."""
    from jaxmerge.merging.listing import listing
    from jaxmerge.merging.stream import peak_bytes

    lines = [f"merge     {plan.recipe.name or 'the output'}"] if named else []
    lines.append(f"method    {plan.operator.name}, seed {plan.seed}")
    for i, (reference, model) in enumerate(zip(plan.references, plan.models, strict=True)):
        # What another merge makes has no folder that stays.
        place = f" ({model.folder})" if model.folder.is_dir() else ""
        lines.append(f"model {i}   {reference}{place}")
    lines += [""] if verbose else ["", *listing(plan)]
    for tensor in plan.tensors if verbose else ():
        pieces = ", ".join(f"{piece.model}:{piece.name}" for piece in tensor.sources)
        base = "" if tensor.base is None else f" on {tensor.base.model}:{tensor.base.name}"
        params = ", ".join(f"{name}={value.tolist()}" for name, value in tensor.params.items())
        verb = "copy " if tensor.copied else ""
        lines.append(f"{tensor.name} {list(tensor.shape)} {tensor.dtype}: {verb}{pieces}{base} {params}".rstrip())
    lines += ["", f"tensors   {len(plan.tensors)}"]
    lines.append(f"memory    about {_size(peak_bytes(plan))} of the host")
    lines.append(f"output    {_size(plan.nbytes)}")
    return "\n".join(lines)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
