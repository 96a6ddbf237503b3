"""Launchers' programs that record what they are called with, and do what a test tells them."""

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

# Each call is a line of calls.jsonl. What a call answers stands in answers.json: a list of [words, answer]. The
# first counts whose words are all in the command line; an answer may be used up (`once`) and may run the given command.
PROGRAM = """#!{python}
import json, pathlib, subprocess, sys
here = pathlib.Path({here!r})
words = sys.argv[1:]
stdin = "" if sys.stdin.isatty() else sys.stdin.read()
file = next((pathlib.Path(w).read_text() for w in words if w.endswith(".yaml")), "")
with (here / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps({{"words": [{name!r}, *words], "stdin": stdin, "file": file}}) + "\\n")
answers = json.loads((here / "answers.json").read_text())
for place, (wanted, answer) in enumerate(answers):
    if all(any(w in word for word in [{name!r}, *words]) for w in wanted):
        if answer.get("once"):
            del answers[place]
            (here / "answers.json").write_text(json.dumps(answers))
        print(answer.get("out", ""), end="")
        print(answer.get("err", ""), end="", file=sys.stderr, flush=True)
        code = answer.get("code", 0)
        if answer.get("runs"):
            command = next(w for w in words if w.startswith("--command=")).removeprefix("--command=")
            code = subprocess.run(["sh", "-c", command]).returncode
        sys.exit(code)
"""


class Programs:
    """A folder of fake programs that comes first on the PATH."""

    def __init__(self, folder: Path, *names: str) -> None:
        self.folder = folder
        self.answer()
        for name in names:
            file = folder / name
            file.write_text(PROGRAM.format(python=sys.executable, here=str(folder), name=name))
            file.chmod(file.stat().st_mode | stat.S_IXUSR)

    @property
    def path(self) -> str:
        return f"{self.folder}{os.pathsep}{os.environ['PATH']}"

    def answer(self, *answers: tuple[list[str], dict[str, Any]]) -> None:
        (self.folder / "answers.json").write_text(json.dumps(answers))

    @property
    def calls(self) -> list[dict[str, Any]]:
        file = self.folder / "calls.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    @property
    def words(self) -> list[list[str]]:
        return [call["words"] for call in self.calls]
