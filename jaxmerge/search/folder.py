"""The files of a run's folder, and how they appear: complete or not at all."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmerge.converters.output_folder import full_disk_named
from jaxmerge.documents import Document
from jaxmerge.errors import CheckpointError, InputError
from jaxmerge.search.config import RANDOM_SEARCH, start_of, warm_start_of

# The traceback of a defect, which the command line writes.
CRASH = "crash.log"


@dataclass(frozen=True)
class RunFolder:
    """Where everything of a run is.

    whole: the folder whose history the run writes to, where it is one stage of a larger run."""

    path: Path
    whole: Path | None = None

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def history(self) -> Path:
        return (self.whole or self.path) / "history.jsonl"

    def stage(self, name: str) -> "RunFolder":
        """The folder of an earlier stage of this run."""
        whole = self.whole or self.path
        return RunFolder(whole / "stages" / name, whole)

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def lock(self) -> Path:
        return self.state / "lock"

    @property
    def measurements(self) -> Path:
        return self.state / "measurements.jsonl"

    @property
    def snapshots(self) -> Path:
        return self.state / "snapshots"

    @property
    def examples(self) -> Path:
        return self.state / "examples"

    @property
    def best(self) -> Path:
        return self.path / "best.yaml"

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def adapters(self) -> Path:
        """LoRAs that the best recipe names."""
        return self.path / "adapters"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def log(self) -> Path:
        return self.path / "log"

    @classmethod
    def at(cls, path: Path) -> "RunFolder":
        """The folder of a run that exists, which may be a stage of a larger one."""
        whole = path.absolute().parent.parent
        is_stage = not (path / "history.jsonl").exists() and (whole / "stages" / path.absolute().name).is_dir()
        return cls(path, whole) if is_stage else cls(path)

    def populations(self) -> dict[str, int]:
        """The population of every stage that may have written to the history, by the stage's name."""
        whole = self.whole or self.path
        found: dict[str, int] = {}
        for file in (whole / "config.yaml", *sorted((whole / "stages").glob("*/config.yaml"))):
            if file.is_file():
                config = Document.read(file).data
                stage = config.get("name") or config["space"].get("kind", "parameter")
                found |= {stage: config["search"]["population"], warm_start_of(stage): 1, start_of(stage): 1}
                if file.parent == whole:
                    found[RANDOM_SEARCH] = config["search"]["population"]
        return found

    @property
    def staged(self) -> bool:
        """Whether earlier stages have left something here."""
        return (self.path / "stages").is_dir()

    def require_free(self) -> None:
        """Raises InputError where the folder holds something that is not a run, or cannot be written."""
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path}: is a file; name a folder as output")
        # What a process killed before it wrote the config leaves behind is still a free folder.
        ours = {"state", "log", "config.yaml.tmp", CRASH, "stages", *(["history.jsonl"] if self.staged else [])}
        if self.path.is_dir() and not self.config.exists() and {p.name for p in self.path.iterdir()} - ours:
            raise InputError(f"{self.path}: exists and is not a run's folder; name another output")
        try:
            self.state.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); name another output") from None

    @contextmanager
    def removed_if_refused(self) -> Iterator[None]:
        """Leave nothing of a new run that is refused before its first score, as where a weight is NaN, but for the
        traceback of a defect before that. The lock is held.

        What a defect or a signal ends stays, in this process or another, which is about to write its traceback."""
        new = not self.config.is_file()
        try:
            yield
        except (InputError, CheckpointError):
            if new and not self.measurements.exists() and not self.history.exists():
                for entry in list(self.path.iterdir()):
                    if entry.is_dir():
                        shutil.rmtree(entry, ignore_errors=True)
                    elif entry.name != CRASH:
                        entry.unlink(missing_ok=True)
                with suppress(OSError):  # not empty
                    self.path.rmdir()
            raise

    def require_run(self) -> None:
        """Raises InputError where there is no run."""
        if not self.config.is_file() and (begun := sorted(self.path.glob("stages/*/config.yaml"))):
            stages = ", ".join(str(file.parent) for file in begun)
            raise InputError(f"{self.path}: its last stage has not begun; name the folder of a stage: {stages}")
        if not self.config.is_file():
            raise InputError(f"{self.path}: is not a run's folder (no config.yaml); name the OUT of jaxmerge evolve")

    def write(self, file: Path, text: str) -> None:
        """Put a file in place when all of it is on the disk."""
        part = file.with_name(file.name + ".tmp")
        try:
            with full_disk_named(self.path), part.open("w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            part.replace(file)
        finally:
            part.unlink(missing_ok=True)

    def replace(self, folder: Path, write: Callable[[Path], None]) -> None:
        """Put a folder of the run in place. write: fills one that does not exist yet."""
        part, old = (folder.with_name(f".{folder.name}.{what}") for what in ("tmp", "old"))
        for leftover in (part, old):
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            with full_disk_named(self.path):
                write(part)
            if folder.exists():
                folder.rename(old)
            part.rename(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)

    def read_summary(self) -> dict[str, Any] | None:
        """summary.json, or None while the run is not done."""
        try:
            summary = json.loads(self.summary.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InputError(f"{self.summary}: cannot be read ({error}); delete it and run the command again") from None
        return summary if isinstance(summary, dict) else None
