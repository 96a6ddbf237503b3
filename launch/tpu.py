"""`kind: tpu`: a slice of Cloud TPU VMs, asked for as a queued resource, the command started on all its workers."""

import re
import shlex
from typing import Literal

from pydantic import Field

from jaxmerge.launch.command import Command
from jaxmerge.launch.script import exports, in_bash, script
from jaxmerge.launch.shell import Ending, Shell
from jaxmerge.launch.target import AGAIN, Name, Remote, Word
from jaxmerge.runtime.processes import AUTO, COORDINATOR

POLL = 20.0
GONE = ("FAILED", "SUSPENDING", "SUSPENDED", "DELETING")
# What the script on a worker says last; the launcher itself ends with a code of its own.
ENDED = re.compile(r"^\[(?P<host>[^\]]*)\] ended with (?P<code>\d+)$")


class Tpu(Remote):
    """name: of the TPU VM and of its queued resource, which is created where there is none. copy: local path to the
    path on every worker. keep: whether the machine stays when the run has ended."""

    kind: Literal["tpu"]
    name: Name
    zone: Word
    accelerator: Word
    version: Word
    project: Word | None = None
    network: Word | None = None
    subnetwork: Word | None = None
    service_account: Word | None = None
    spot: bool = False
    create: bool = True
    keep: bool = True
    files: dict[Word, Word] = Field(default_factory=dict, alias="copy")

    def count(self) -> int:
        # As many as the slice has hosts, which the accelerator's name does not say.
        return 2

    def attempt(self, command: Command, shell: Shell) -> Ending:
        if self.create:
            ending = self._obtain(shell)
            if ending.code:
                return ending
        for source, there in self.files.items():
            words = self._gcloud("tpu-vm", "scp", "--recurse", "--worker=all", source, f"{self.name}:{there}")
            ending = shell.run(words)
            if ending.code:
                return ending
        try:
            ending = self._everywhere(shell, self._script(command))
        except KeyboardInterrupt:
            self._everywhere(shell, self._stop())
            raise
        return self._judged(ending, shell) if ending.code else ending

    def finish(self, shell: Shell, code: int) -> None:
        delete = self._gcloud("queued-resources", "delete", self.name, "--force", "--quiet")
        if self.create and not self.keep:
            shell.run(delete)
        else:
            shell.say(f"the TPU VM '{self.name}' still runs, and costs; to delete it: {shlex.join(delete)}")

    def _obtain(self, shell: Shell) -> Ending:
        """Waits until the machine is there; a request that failed or was preempted is made anew."""
        for _ in range(2):
            created = shell.run(self._create())
            if created.code and "already exists" not in "\n".join(created.lines).lower().replace("_", " "):
                return created
            while (state := self._state(shell)) not in ("ACTIVE", "", *GONE):
                shell.say(f"'{self.name}' is {state}; waiting")
                shell.pause(POLL)
            if state not in GONE:
                return Ending(0, created.who)
            shell.run(self._gcloud("queued-resources", "delete", self.name, "--force", "--quiet"))
        return Ending(1, f"the request for '{self.name}'", (f"its state is {state}",))

    def _create(self) -> tuple[str, ...]:
        options = {
            "node-id": self.name,
            "accelerator-type": self.accelerator,
            "runtime-version": self.version,
            "network": self.network,
            "subnetwork": self.subnetwork,
            "service-account": self.service_account,
        }
        given = [f"--{key}={value}" for key, value in options.items() if value is not None]
        return self._gcloud("queued-resources", "create", self.name, *given, *(["--spot"] if self.spot else []))

    def _state(self, shell: Shell) -> str:
        words = self._gcloud("queued-resources", "describe", self.name, "--format=value(state.state)")
        return shell.run(words, quiet=True).out

    def _judged(self, ending: Ending, shell: Shell) -> Ending:
        """The first worker's own ending; where none had one, whether the machine is gone."""
        for line in ending.lines:
            found = ENDED.match(line)
            if found and int(found["code"]):
                mine = tuple(text for text in ending.lines if text.startswith(f"[{found['host']}] "))
                return Ending(int(found["code"]), f"worker {found['host']}", mine)
        if self.create and self._state(shell) in GONE:
            return Ending(AGAIN, f"the TPU VM '{self.name}'", ending.lines)
        return ending

    def _script(self, command: Command) -> str:
        # The pid lets a later ssh end what this one started; the host's name goes before every line.
        run = [
            f"{{ {shlex.join(command.words)} & echo $! > {self._pid}; wait $!; code=$?; "
            'echo "ended with $code"; exit $code; } 2>&1 | sed -u "s/^/[$(hostname)] /"',
            'code=${PIPESTATUS[0]}; [ "$code" = 0 ] || { sleep 1; exit "$code"; }',
        ]
        return script(exports({COORDINATOR: AUTO} | self.variables), self.setup, ["set +e"], run)

    def _stop(self) -> str:
        return script([f'kill -TERM "$(cat {self._pid})"'])

    @property
    def _pid(self) -> str:
        return f'"$HOME/.jaxmerge-{self.name}.pid"'

    def _everywhere(self, shell: Shell, text: str) -> Ending:
        words = self._gcloud("tpu-vm", "ssh", self.name, "--worker=all", f"--command={in_bash(text)}")
        return shell.run(words, shown=text)

    def _gcloud(self, *words: str) -> tuple[str, ...]:
        where = [f"--zone={self.zone}", *([f"--project={self.project}"] if self.project else [])]
        return ("gcloud", "compute", "tpus", *words, *where)
