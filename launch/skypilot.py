"""`kind: skypilot`: a managed job of SkyPilot, on whatever cloud has the machines."""

import shlex
from typing import Annotated, Any, Literal

from pydantic import Field

from jaxmerge.documents import write_yaml
from jaxmerge.launch.command import Command
from jaxmerge.launch.shell import Ending, Shell
from jaxmerge.launch.target import AGAIN, Name, Remote, Word
from jaxmerge.runtime.processes import COORDINATOR, PROCESS, PROCESSES

PORT = 8476


class SkyPilot(Remote):
    """nodes: machines, one process each. infra: such as gcp/us-west4. file_mounts: path there to a path here or a
    bucket. SkyPilot itself starts the job again on 75, without a limit; retries: 0 forbids it."""

    kind: Literal["skypilot"]
    name: Name
    nodes: Annotated[int, Field(ge=1)] = 1
    infra: Word | None = None
    accelerators: Word | None = None
    runtime_version: Word | None = None
    cpus: Word | int | None = None
    memory: Word | int | None = None
    disk_size: Annotated[int, Field(ge=1)] | None = None
    spot: bool = False
    image: Word | None = None
    workdir: str | None = None
    file_mounts: dict[str, Any] = Field(default_factory=dict)

    def count(self) -> int:
        return self.nodes

    def attempt(self, command: Command, shell: Shell) -> Ending:
        file = shell.file(f"{self.name}.sky.yaml", write_yaml(self.task(command)))
        return shell.run(("sky", "jobs", "launch", "--yes", f"--name={self.name}", file))

    def task(self, command: Command) -> dict[str, Any]:
        """The task as plain Python."""
        resources: dict[str, Any] = {
            "infra": self.infra,
            "accelerators": self.accelerators,
            "accelerator_args": {"runtime_version": self.runtime_version} if self.runtime_version else None,
            "cpus": self.cpus,
            "memory": self.memory,
            "disk_size": self.disk_size,
            "image_id": self.image,
            "use_spot": self.spot,
            "job_recovery": {"recover_on_exit_codes": [AGAIN]} if self.retries else None,
        }
        # Of a TPU slice SkyPilot counts one node, though it runs the task on all its hosts: there are as many as it
        # names.
        several = [
            "if [ \"$(echo \"$SKYPILOT_NODE_IPS\" | wc -l)\" -gt 1 ]; then",
            f'  export {COORDINATOR}="$(echo "$SKYPILOT_NODE_IPS" | head -n 1):{PORT}"',
            f'  export {PROCESSES}="$(echo "$SKYPILOT_NODE_IPS" | wc -l)" {PROCESS}="$SKYPILOT_NODE_RANK"',
            "fi",
        ]
        task: dict[str, Any] = {
            "name": self.name,
            "num_nodes": self.nodes,
            "resources": {key: value for key, value in resources.items() if value is not None},
            "workdir": self.workdir,
            "file_mounts": self.file_mounts or None,
            "envs": self.variables or None,
            "setup": "\n".join(self.setup) or None,
            "run": "\n".join([*several, f"exec {shlex.join(command.words)}"]) + "\n",
        }
        return {key: value for key, value in task.items() if value is not None}
