"""Convert a Hugging Face folder to a Flax folder (Orbax), or a Flax folder to a Hugging Face one, bit for
bit."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    src: Annotated[
        str, typer.Argument(metavar="SRC", help="The model to convert; what it is decides the direction.")
    ],
    dst: Annotated[Path, typer.Argument(metavar="DST", help="The folder to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace DST where it exists.")] = False,
    max_shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest safetensors file, for instance 5GB or 512MiB.")
    ] = "5GB",
) -> None:
    """Convert a Hugging Face folder to a Flax folder (Orbax), or a Flax folder to a Hugging Face one, bit for
    bit."""
    from jaxmerge.cli.progress import bar

    with bar(f"Converting {src}"):
        from jaxmerge.converters.convert import convert

        kind = convert(src, dst, force=force, max_shard_size=max_shard_size)
    typer.echo(f"{dst}: {'Flax folder' if kind == 'flax' else 'Hugging Face folder'} written")
