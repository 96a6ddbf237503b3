"""Text for a shell on another machine: every word that comes from the user is quoted."""

import shlex
from collections.abc import Iterable, Mapping


def exports(env: Mapping[str, str]) -> list[str]:
    """`export NAME='value'`, a line each."""
    return [f"export {name}={shlex.quote(value)}" for name, value in env.items()]


def script(*parts: Iterable[str]) -> str:
    """A bash script of the lines, which ends at the first that fails."""
    return "\n".join(["set -e", *(line for part in parts for line in part)]) + "\n"


def in_bash(text: str) -> str:
    """The script as one word for whatever shell the other machine has."""
    return f"bash -c {shlex.quote(text)}"
