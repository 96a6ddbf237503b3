"""Where a command is started: what all kinds of target have in common."""

import re
from abc import abstractmethod
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator

from jaxmerge.launch.command import Command
from jaxmerge.launch.secrets import first_secret, is_secret
from jaxmerge.launch.shell import Ending, Shell
from jaxmerge.runtime.processes import NAMES
from jaxmerge.strict import Strict, misfit

# What the command ends with when it was interrupted and the same command goes on.
AGAIN = 75

# A name that clouds and Kubernetes take for a machine or a job.
Name = Annotated[str, StringConstraints(pattern=r"^[a-z]([-a-z0-9]{0,50}[a-z0-9])?$")]
# A word that stands in an option of a launcher: `--zone=word`.
Word = Annotated[str, StringConstraints(pattern=r"^[^\s\x00-\x1f-][^\s\x00-\x1f]*$")]

VARIABLE = re.compile(r"\$\{?[A-Za-z_]")


class Target(Strict):
    """retries: how often the command is started again after it was interrupted (exit code 75).
    env: variables of the command's environment."""

    retries: Annotated[int, Field(ge=0, le=1000)] = 3
    env: dict[str, str | int | float] = Field(default_factory=dict)

    @field_validator("env")
    @classmethod
    def _names(cls, env: dict[str, Any]) -> dict[str, Any]:
        for name in env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise misfit(f"'{name}' is no name of a variable", name)
            if name in NAMES:
                raise misfit("this is set by the launch itself; leave it out", name)
        return env

    @field_validator("env")
    @classmethod
    def _secrets(cls, env: dict[str, Any]) -> dict[str, Any]:
        for name, value in env.items():
            cls.check_value(name, str(value))
        return env

    @classmethod
    @abstractmethod
    def check_value(cls, name: str, value: str) -> None:
        """Refuses what must not be written down, or would not mean there what it means here."""

    @classmethod
    @abstractmethod
    def remedy(cls) -> str:
        """Where a token belongs instead."""

    @property
    def variables(self) -> dict[str, str]:
        return {name: str(value) for name, value in self.env.items()}

    @abstractmethod
    def count(self) -> int:
        """Processes that run the command; where only the launcher knows, any number above one."""

    @abstractmethod
    def attempt(self, command: Command, shell: Shell) -> Ending:
        """Start the command once and wait for its end."""

    def finish(self, shell: Shell, code: int) -> None:
        """What is left to do or to say when there is no further attempt."""


class Remote(Target):
    """Other machines. setup: shell commands run on each before the command, in the same shell but for SkyPilot."""

    setup: list[str] = Field(default_factory=list)

    @field_validator("setup")
    @classmethod
    def _setup(cls, lines: list[str]) -> list[str]:
        place = first_secret(lines)
        if place is not None:
            raise misfit(f"item {place} holds what looks like a token; {cls.remedy()}")
        return lines

    @classmethod
    def check_value(cls, name: str, value: str) -> None:
        if is_secret(value, name):
            raise misfit(f"looks like a token, which is never written down; {cls.remedy()}", name)
        if VARIABLE.match(value):
            raise misfit("variables of this machine are put in for 'kind: local' only; write the value", name)

    @classmethod
    def remedy(cls) -> str:
        return "log in on the hosts instead (hf auth login), or let the cloud's secret manager hand it to them"
