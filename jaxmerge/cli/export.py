"""`jaxmerge export`: any candidate of a run as an HF folder."""

import re
from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The folder of a run, or its URL.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write; it appears when it is complete.")],
    candidate: Annotated[
        str | None,
        typer.Option(
            metavar="G:I", help="Generation and index in the search, or STAGE:G:I of history.jsonl; default: the best."
        ),
    ] = None,
) -> None:
    """Export a candidate of a run as a Hugging Face folder."""
    from jaxmerge.errors import InputError
    from jaxmerge.search.remote import working_copy
    from jaxmerge.search.run import Run

    place: tuple[int, int] | tuple[str, int, int] | None = None
    if candidate is not None:
        match = re.fullmatch(r"(?:([\w-]+):)?(\d+):(\d+)", candidate)
        if match is None:
            raise InputError(f"--candidate {candidate}: write generation:index, such as 12:3, or random_search:12:3")
        stage, generation, index = match[1], int(match[2]), int(match[3])
        place = (generation, index) if stage is None else (stage, generation, index)
    with working_copy(run, reading=True) as copy:
        typer.echo(Run(copy.folder).export(out, place))
