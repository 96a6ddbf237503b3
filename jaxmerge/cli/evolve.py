"""`jaxmerge evolve`: search, then export."""

from pathlib import Path
from typing import Annotated

import typer

from jaxmerge.errors import InputError


def command(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The evolve config.")],
    out: Annotated[
        str, typer.Argument(metavar="OUT", help="The run's folder, or gs://BUCKET/RUN; an unfinished run is resumed.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a key: search.generations=5. May be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print dimension, memory and time; write nothing.")
    ] = False,
    devices: Annotated[
        str | None,
        typer.Option("--devices", metavar="NAME-N", help="With --dry-run: plan for devices like v5e-16 or H100-8."),
    ] = None,
) -> None:
    """Search for the best merge of models and export it; the same command resumes."""
    if devices is not None and not dry_run:
        raise InputError("--devices: is planned for with --dry-run only; a run takes the devices that are here")
    if dry_run:
        from jaxmerge.search.dry_run import plan

        lines = plan(config, overrides or (), devices=devices)
        width = max(map(len, lines))
        for name, text in lines.items():
            typer.echo(f"{name:{width}}  {text}")
        return

    from jaxmerge.cli.outcome import show
    from jaxmerge.cli.progress import shown
    from jaxmerge.evolution import evolve
    from jaxmerge.runtime.distributed import leads

    with shown() as progress:
        run = evolve(config, out, overrides=overrides or (), progress=progress)
    if leads():
        show(run)
