"""`jaxmerge report`: rebuilds a run's report."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, finished or still going on.")],
) -> None:
    """Rebuild report.html of a run."""
    from jaxmerge.report.build import build

    typer.echo(build(run))
