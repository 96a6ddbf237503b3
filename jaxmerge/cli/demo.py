"""`jaxmerge demo`: the whole road on models that ship with it."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Argument(metavar="[OUT]", help="The run's folder.")] = Path("jaxmerge-demo"),
) -> None:
    """Evolve a merge of the models that ship with jaxmerge, in minutes on a CPU."""
    from rich.console import Console

    from jaxmerge.cli.progress import shown
    from jaxmerge.demo.run import run_demo
    from jaxmerge.report.run_data import read_run
    from jaxmerge.report.table import result_table

    with shown() as progress:
        run_demo(out, progress)
    run = read_run(out)
    Console().print(result_table(run.summary or {}, run.config))
    for what, name in (("model", "model"), ("recipe", "best.yaml"), ("report", "report.html")):
        typer.echo(f"{what:7} {out / name}")
