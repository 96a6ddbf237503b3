"""One launch from its beginning to its end: attempts, and what is said of the last."""

import os
from pathlib import Path

from jaxmerge.errors import InputError
from jaxmerge.launch.command import Command
from jaxmerge.launch.secrets import first_secret
from jaxmerge.launch.shell import Shell
from jaxmerge.launch.target import AGAIN, Target


def launch(target: Target, command: Command, shell: Shell) -> int:
    """Start a command on a target, again while it ends with 75 and retries are left. Gives its exit code.

    Raises InputError where the launcher's program is missing or the command does not fit the target."""
    command.require_divisible(target.count())
    place = first_secret(command.words)
    if place is not None:
        raise InputError(
            f"launch: argument {place} of the command looks like a token, which is never sent; {target.remedy()}"
        )
    for attempt in range(target.retries + 1):
        ending = target.attempt(command, shell)
        if ending.code != AGAIN or attempt == target.retries:
            break
        shell.say(f"{ending.who} was interrupted; starting again ({attempt + 1} of {target.retries})")
    if ending.code:
        left = f" after {target.retries} retries; the same command goes on" if ending.code == AGAIN else ""
        shell.say(f"{ending.who} ended with exit code {ending.code}{left}; its last lines:")
        for line in ending.lines or ("(none)",):
            shell.say(f"  {line}", plain=True)
    target.finish(shell, ending.code)
    return ending.code


def last_lines(file: Path, count: int = 20) -> tuple[str, ...]:
    """Of a log, where it can be read from here."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, os.fstat(stream.fileno()).st_size - 65536))
            return tuple(stream.read().decode(errors="replace").splitlines()[-count:])
    except OSError:
        return ()
