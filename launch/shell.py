"""Running a launcher's commands, or only printing them: a dry run walks the same road as a real one."""

import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from jaxmerge.errors import InputError
from jaxmerge.launch.process import Process, say

# Where the programs come from that a launch uses.
PROGRAMS = {
    "gcloud": "install the Google Cloud CLI: https://cloud.google.com/sdk/docs/install",
    "kubectl": "install it: https://kubernetes.io/docs/tasks/tools, or `gcloud components install kubectl`",
    "sbatch": "it belongs to SLURM: launch from a login node of the cluster",
    "sky": "install SkyPilot: pip install 'skypilot[gcp]'",
}


@dataclass(frozen=True)
class Ending:
    """code: the exit code. who: the host or command it is of. lines: its last output."""

    code: int
    who: str
    lines: tuple[str, ...] = ()
    out: str = ""


@dataclass(frozen=True)
class Start:
    """A process of this machine. shown: of its environment, how the values are printed (default: as they are)."""

    name: str
    words: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)


class Shell(Protocol):
    def run(self, words: Sequence[str], *, stdin: str = "", quiet: bool = False, shown: str = "") -> Ending:
        """One command to its end; its output is passed on line by line. quiet: it is kept instead, as `out`.
        shown: the script that stands among the words under layers of quotes, for people to read."""

    def together(self, starts: Sequence[Start], *, patience: float) -> Ending:
        """Several processes; the first that fails ends the others. patience: seconds that the others are given to end
        by themselves when one was interrupted or killed."""

    def file(self, name: str, text: str) -> str:
        """The path of a temporary file with this text."""

    def say(self, message: str, *, plain: bool = False) -> None: ...

    def pause(self, seconds: float) -> None: ...


@dataclass
class Printed:
    """Prints every command and every file that would be sent, and runs nothing; each succeeds and says nothing."""

    def run(self, words: Sequence[str], *, stdin: str = "", quiet: bool = False, shown: str = "") -> Ending:
        if shown:
            print("# on every worker:\n" + "".join(f"#   {line}\n" for line in shown.splitlines()), end="")
        print(shlex.join(words) + (" <<'EOF'" if stdin else ""))
        if stdin:
            print(stdin.rstrip("\n") + "\nEOF")
        return Ending(0, words[0])

    def together(self, starts: Sequence[Start], *, patience: float) -> Ending:
        for start in starts:
            shown = {name: start.shown.get(name, shlex.quote(value)) for name, value in start.env.items()}
            print(" ".join([*(f"{name}={value}" for name, value in shown.items()), shlex.join(start.words)]))
        return Ending(0, starts[0].name)

    def file(self, name: str, text: str) -> str:
        print(f"# {name}\n{text.rstrip()}\n")
        return name

    def say(self, message: str, *, plain: bool = False) -> None:
        print(message if plain else f"# {message}")

    def pause(self, seconds: float) -> None:
        pass


@dataclass
class Live:
    """Runs them."""

    _folder: "tempfile.TemporaryDirectory[str] | None" = None

    def run(self, words: Sequence[str], *, stdin: str = "", quiet: bool = False, shown: str = "") -> Ending:
        program = shutil.which(words[0])
        if program is None:
            remedy = PROGRAMS.get(words[0], "install it, or correct the command")
            raise InputError(f"launch: the program '{words[0]}' is not on the PATH; {remedy}")
        process = Process("", words, {}, stdin=stdin, quiet=quiet)
        try:
            code = process.wait()
        finally:
            process.end()
        return Ending(128 - code if code < 0 else code, " ".join(words[:3]), process.last, process.out)

    def together(self, starts: Sequence[Start], *, patience: float) -> Ending:
        from jaxmerge.launch.together import together

        for start in starts:
            if shutil.which(start.words[0]) is None:
                raise InputError(f"launch: the program '{start.words[0]}' is not on the PATH; correct the command")
        return together(starts, patience)

    def file(self, name: str, text: str) -> str:
        self._folder = self._folder or tempfile.TemporaryDirectory(prefix="jaxmerge-launch-")
        path = Path(self._folder.name) / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    def say(self, message: str, *, plain: bool = False) -> None:
        say(message if plain else f"jaxmerge: launch: {message}", sys.stderr)

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)
