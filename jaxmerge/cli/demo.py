"""`jaxmerge demo`: the whole road on models that ship with it."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    out: Annotated[Path, typer.Argument(metavar="[OUT]", help="The run's folder.")] = Path("jaxmerge-demo"),
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the demo's config.")
    ] = None,
) -> None:
    """Evolve a merge of the models that ship with jaxmerge, in minutes on a CPU."""
    from jaxmerge.cli.outcome import show
    from jaxmerge.cli.progress import shown
    from jaxmerge.demo.run import run_demo
    from jaxmerge.runtime.distributed import leads

    with shown() as progress:
        run = run_demo(out, progress, overrides or ())
    if leads():
        show(run)
