"""`kind: slurm`: a batch script for sbatch, one process a node by srun."""

import re
import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jaxmerge.launch.command import Command
from jaxmerge.launch.script import exports
from jaxmerge.launch.shell import Ending, Shell
from jaxmerge.launch.start import last_lines
from jaxmerge.launch.target import Name, Remote, Word
from jaxmerge.runtime.processes import COORDINATOR, PROCESS, PROCESSES

# Seconds before the time limit at which the job is told to stop, and ends with 75.
WARNING = 120
FAILED = re.compile(r"task (?P<task>\d+): (?:Exited with exit code (?P<code>\d+)|(?P<signal>[A-Z][a-z]+))")


class Slurm(Remote):
    """nodes: one process each, which sees all the accelerators of its node. options: further ones of sbatch."""

    kind: Literal["slurm"]
    name: Name = "jaxmerge"
    nodes: Annotated[int, Field(ge=1)]
    partition: Word | None = None
    account: Word | None = None
    time: Word | None = None
    gpus_per_node: Word | int | None = None
    cpus_per_task: Annotated[int, Field(ge=1)] | None = None
    mem: Word | None = None
    options: list[Annotated[str, Field(pattern=r"^--[a-z][^\s]*$")]] = Field(default_factory=list)

    def count(self) -> int:
        return self.nodes

    def attempt(self, command: Command, shell: Shell) -> Ending:
        ending = shell.run(("sbatch", "--wait", "--parsable"), stdin=self.script(command))
        if not ending.code:
            return ending
        job = next((line.split(";")[0] for line in ending.lines if re.fullmatch(r"\d+(;.*)?", line)), None)
        log = last_lines(Path(f"{self.name}-{job}.log"), 200) if job else ()
        failed = next((found for line in log if (found := FAILED.search(line))), None)
        if failed is None:
            return Ending(ending.code, f"job {job}" if job else ending.who, log[-20:] or ending.lines)
        mine = tuple(line for line in log if line.startswith(f"{failed['task']}: "))
        return Ending(int(failed["code"] or ending.code), f"task {failed['task']} of job {job}", mine[-20:])

    def script(self, command: Command) -> str:
        """The batch script; sbatch reads it from its standard input, so that no file is left."""
        options = {
            "job-name": self.name,
            "output": f"{self.name}-%j.log",
            "nodes": self.nodes,
            "ntasks-per-node": 1,
            "partition": self.partition,
            "account": self.account,
            "time": self.time,
            "gpus-per-node": self.gpus_per_node,
            "cpus-per-task": self.cpus_per_task,
            "mem": self.mem,
            "signal": f"TERM@{WARNING}",
        }
        lines = [f"#SBATCH --{key}={value}" for key, value in options.items() if value is not None]
        lines += [f"#SBATCH {option}" for option in self.options]
        lines += ["set -e", *exports(self.variables), *self.setup]
        task = f"exec {shlex.join(command.words)}"
        if self.nodes > 1:
            lines += [
                # The port follows from the job, for two jobs may share a node.
                f'export {COORDINATOR}="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
                ':$((20000 + SLURM_JOB_ID % 20000))"',
                f"export {PROCESSES}={self.nodes}",
            ]
            task = f"export {PROCESS}=$SLURM_PROCID; {task}"
        lines.append(f"exec srun --label --kill-on-bad-exit=1 bash -c {shlex.quote(task)}")
        return "\n".join(["#!/bin/bash", *lines]) + "\n"
