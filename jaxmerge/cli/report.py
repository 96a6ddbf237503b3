"""`jaxmerge report`: rebuilds a run's report."""

from typing import Annotated

import typer


def command(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="The folder of a run, or its URL; finished or still going on.")
    ],
) -> None:
    """Rebuild report.html of a run."""
    from jaxmerge.report.build import build
    from jaxmerge.search.remote import working_copy

    with working_copy(run, reading=True) as copy:
        typer.echo(copy.shown(build(copy.folder)))
