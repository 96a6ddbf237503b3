"""The errors a user can meet, each with the exit code that `jaxmerge` ends with.

A message is one line that names the file, the key or the tensor, and what to do about it.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class JaxmergeError(Exception):
    """Base of all expected failures. `exit_code` is what the command line returns."""

    exit_code = 1


class InputError(JaxmergeError):
    """The user's input is wrong: a key, a value, a path, a line of data."""

    exit_code = 2


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
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean '{near[0]}'?" if near else f"there are: {', '.join(names)}"
    return InputError(f"{where}{': ' if where else ''}unknown {kind} '{name}'; {hint}")
