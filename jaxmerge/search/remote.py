"""A run whose folder is in an object store. It works in a copy on this host, and sends it there as it goes on.

What a lost host had not sent yet is searched again, with the same result: the history decides about all that follows.
"""

import atexit
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from jaxmerge.errors import InputError, JaxmergeError
from jaxmerge.runtime.at_work import MARK, at_work
from jaxmerge.runtime.mirror import Mirror
from jaxmerge.runtime.object_store import ObjectStore, is_remote

# Sent after all else: they say that it is there.
LAST = ("history.jsonl", "best.yaml", "summary.json")
# Seconds between two times that a run is sent.
EVERY = 30.0


@dataclass
class Copy:
    """The copy of a run's folder. mirror: None where the run is at home here."""

    folder: Path
    mirror: Mirror | None = None
    _last: float = 0.0

    def shown(self, file: Path) -> str:
        """Where a file of the copy is at home."""
        return str(file) if self.mirror is None else f"{self.mirror.store.url}/{file.relative_to(self.folder)}"

    def keep(self) -> None:
        """Send what is new, unless that was done a moment ago. Where it cannot be sent now, the next time may do."""
        if self.mirror is not None and time.monotonic() - self._last >= EVERY:
            try:
                self.mirror.push()
            except InputError as error:
                warnings.warn(f"{error}; the run goes on", stacklevel=2)
            self._last = time.monotonic()


@contextmanager
def working_copy(out: str | Path, *, reading: bool = False) -> Iterator[Copy]:
    """A run's folder as a path. What changes in it is sent when the block ends, however it ends. A path is given back
    as it is.

    An empty folder stands for the run's own model. The copy stays until the process ends, but for an error. reading:
    beside whoever works in it. Raises InputError where the store cannot be reached, or another process works there."""
    if not is_remote(out):
        yield Copy(Path(out))
        return
    store = ObjectStore(str(out))
    folder = scratch() / "run"
    mirror = Mirror(store, folder, LAST)
    with nullcontext() if reading else at_work(store):
        try:
            names = mirror.pull(lambda name: name != MARK and not name.startswith("model/"))
            if any(name.startswith("model/") for name in names):
                (folder / "model").mkdir(parents=True, exist_ok=True)
            try:
                yield Copy(folder, mirror)
            finally:
                _send(mirror)
        except JaxmergeError as error:
            shutil.rmtree(folder.parent, ignore_errors=True)
            # The user knows the folder by its own name.
            raise type(error)(str(error).replace(str(folder), store.url)) from error
        except BaseException:
            shutil.rmtree(folder.parent, ignore_errors=True)
            raise


def scratch() -> Path:
    """A folder of this process, removed when it ends."""
    folder = Path(tempfile.mkdtemp(prefix="jaxmerge-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _send(mirror: Mirror) -> None:
    if not mirror.folder.is_dir():
        return
    try:
        mirror.push()
        if any((mirror.folder / "model").glob("*")):
            mirror.prune("model")
    except InputError as error:
        kept = Path(tempfile.mkdtemp(prefix="jaxmerge-run-"))
        shutil.copytree(mirror.folder, kept, dirs_exist_ok=True)
        raise InputError(f"{error}; the run is kept in {kept}: copy it there, and the same command goes on") from None
