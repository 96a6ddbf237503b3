"""`kind: local`: N processes on this machine, for tests and for a machine of several accelerators."""

import os
import re
import socket
import sys
from typing import Annotated, Any, Literal

from pydantic import Field

from jaxmerge.errors import InputError
from jaxmerge.launch.command import Command
from jaxmerge.launch.secrets import is_secret
from jaxmerge.launch.shell import Ending, Shell, Start
from jaxmerge.launch.target import Target
from jaxmerge.runtime.processes import COORDINATOR, PROCESS, PROCESSES
from jaxmerge.strict import misfit

# Seconds in which the others notice that a process was lost, and end by themselves.
PATIENCE = 60.0
REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


class Local(Target):
    """devices: CPU devices a process; not given, the processes see whatever this machine has."""

    kind: Literal["local"]
    processes: Annotated[int, Field(ge=1, le=1024)] = 1
    devices: Annotated[int, Field(ge=1, le=1024)] | None = None

    def count(self) -> int:
        return self.processes

    @classmethod
    def check_value(cls, name: str, value: str) -> None:
        # By name a value of the caller's environment may be meant, whatever it is.
        if is_secret(REFERENCE.sub("", value), name):
            raise misfit(f"looks like a token, which is never written down; {cls.remedy()}", name)

    @classmethod
    def remedy(cls) -> str:
        return "export it in your shell, and name it here as ${NAME}"

    def attempt(self, command: Command, shell: Shell) -> Ending:
        words = (*_jaxmerge(), *command.words[1:]) if command.ours else command.words
        own: dict[str, str] = {}
        if self.devices is not None:
            own |= {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(self.devices)}
        env = own | {name: _resolved(name, value) for name, value in self.variables.items()}
        # Printed as it was written: a value of the caller's environment may be a secret.
        shown = {name: f'"{value}"' for name, value in self.variables.items() if REFERENCE.search(value)}
        if self.processes == 1:
            return shell.together([Start("0", words, env, shown)], patience=PATIENCE)
        address = f"localhost:{_free_port()}"
        starts = [
            Start(str(i), words, {COORDINATOR: address, PROCESSES: str(self.processes), PROCESS: str(i)} | env, shown)
            for i in range(self.processes)
        ]
        return shell.together(starts, patience=PATIENCE if command.ours else 0.0)


def _jaxmerge() -> tuple[str, ...]:
    """This jaxmerge, whether or not its script is on the PATH."""
    # `python -m jaxmerge` in a checkout finds the package in the working directory; nothing else must be found there.
    beside = sys.path[:1] in ([""], [os.getcwd()])
    return (sys.executable, *(() if beside else ("-P",)), "-m", "jaxmerge")


def _resolved(name: str, value: str) -> str:
    def found(match: "re.Match[str]") -> str:
        if match[1] not in os.environ:
            raise InputError(f"env: {name}: the variable {match[1]} is not set here; export it, or leave the key out")
        return os.environ[match[1]]

    return REFERENCE.sub(found, value)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        address: tuple[Any, ...] = listener.getsockname()
        return int(address[1])
