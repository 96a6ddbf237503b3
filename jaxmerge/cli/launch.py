"""`jaxmerge launch`: the same command on many hosts."""

from pathlib import Path
from typing import Annotated

import typer


def command(
    target: Annotated[Path, typer.Argument(metavar="TARGET.yaml", help="Where to start it; see launch/README.md.")],
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- COMMAND...", help="A jaxmerge command (evolve CONFIG OUT) or any other program."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print every command and every file it would send; run nothing.")
    ] = False,
) -> None:
    """Start a command on this machine, a TPU pod, SLURM, GKE or SkyPilot; again when it was interrupted."""
    from jaxmerge.cli.main import COMMANDS
    from jaxmerge.launch.command import Command
    from jaxmerge.launch.kinds import read_target
    from jaxmerge.launch.shell import Live, Printed
    from jaxmerge.launch.start import launch

    wanted = read_target(target)
    what = Command.parse(words or (), COMMANDS)
    raise typer.Exit(launch(wanted, what, Printed() if dry_run else Live()))
