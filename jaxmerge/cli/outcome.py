"""How a finished search is shown in the terminal: its table, and where what it made lies."""

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from jaxmerge.search.run import Run


def show(run: "Run") -> None:
    """Print the result of a finished run."""
    from rich.console import Console

    from jaxmerge.report.table import result_table
    from jaxmerge.search.resolved import plain

    Console().print(result_table(run.summary, plain(run.config)))
    for what, name in (("model", "model"), ("recipe", "best.yaml"), ("report", "report.html")):
        typer.echo(f"{what:7} {run.home or run.folder}/{name}")
