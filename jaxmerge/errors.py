"""The errors a user can meet, each with the exit code that `jaxmerge` ends with.

A message is one line that names the file, the key or the tensor, and what to do about it.
"""


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
