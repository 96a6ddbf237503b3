"""`jaxmerge moe`: a mixture of experts from dense models."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    recipe: Annotated[Path, typer.Argument(help="The recipe, mergekit-moe's YAML.", metavar="RECIPE.yaml")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; it appears when it is complete.")],
    seed: Annotated[int, typer.Option(min=0, help="Of random routers and of noise.")] = 0,
    max_shard_size: Annotated[
        str, typer.Option("--max-shard-size", metavar="SIZE", help="Of a file of weights, such as 512MB.")
    ] = "5GB",
    force: Annotated[bool, typer.Option("--force", help="Replace OUT if it exists.")] = False,
) -> None:
    """Put the MLPs of dense models side by side as a mixture of experts, with routers from prompts."""
    from jaxmerge.cli.progress import bar
    from jaxmerge.merging.experts.mixture import moe

    with bar("Writing") as progress:
        folder = moe(recipe, out, seed=seed, max_shard_size=max_shard_size, force=force, progress=progress)
    typer.echo(folder)
