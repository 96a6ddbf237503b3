"""The errors a user can meet, each with the exit code that `jaxmerge` ends with.

A message is one line that names the file, the key or the tensor, and what to do about it; of several mistakes in one
file each has a line.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class JaxmergeError(Exception):
    """Base of all expected failures. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(JaxmergeError):
    """The user's input is wrong: a key, a value, a path, a line of data."""

    exit_code = 2


class Mistakes(InputError):
    """Several, a line each."""


class CheckpointError(JaxmergeError):
    """A checkpoint is unreadable, inconsistent, or does not fit the others."""

    exit_code = 3


class Interrupted(JaxmergeError):
    """SIGINT, SIGTERM or preemption; the same command resumes."""

    exit_code = 75


def unknown(kind: str, name: str, known: Iterable[str], where: str = "") -> InputError:
    """The error for a name that does not exist, with the nearest one that does.

    kind: what it is ("key", "operator", "metric"). where: the file or key it stands in, such as `evolve.yaml: space`.
    """
    names = sorted(known)
    near = nearest(name, names)
    hint = f"did you mean '{near}'?" if near else f"there are: {', '.join(names)}"
    return InputError(f"{where}{': ' if where else ''}unknown {kind} '{name}'; {hint}")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one is most like."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=0.6)), None)


def joined(errors: Sequence[InputError]) -> InputError:
    """One or more errors as one."""
    lines = dict.fromkeys(" ".join(line.split()) for error in errors for line in error_lines(error))
    return errors[0] if len(lines) == 1 else Mistakes("\n".join(lines))


def error_lines(error: Exception) -> list[str]:
    """What the user is told of an error, a line for each mistake."""
    return str(error).splitlines() if isinstance(error, Mistakes) else [str(error)]
