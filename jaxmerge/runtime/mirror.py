"""A folder of an object store, and the copy of it in which this host works."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from jaxmerge.runtime.object_store import ObjectStore

# What stays on this host: locks, and what is not whole.
LOCAL = ("lock", ".tmp", ".old")


class Mirror:
    """folder: the copy here. last: names that are sent after all others, in this order."""

    def __init__(self, store: ObjectStore, folder: Path, last: tuple[str, ...] = ()) -> None:
        self.store, self.folder, self._last = store, folder, last
        self._sent: dict[str, tuple[int, int]] = {}

    def pull(self, wanted: Callable[[str], bool] = lambda name: True) -> list[str]:
        """Bring what the store holds, and give the names of all its files. wanted: which of them are needed here."""
        names = self.store.names()
        for name in filter(wanted, names):
            self.store.get(name, self.folder / name)
            self._sent[name] = _version(self.folder / name)
        return names

    def push(self) -> None:
        """Send what has changed here, and remove there what was removed here."""
        found = {name: _version(self.folder / name) for name in self._names()}
        for name in sorted((n for n, version in found.items() if self._sent.get(n) != version), key=self._order):
            with suppress(FileNotFoundError):  # replaced in the meantime: the next push has it
                self.store.put(self.folder / name, name)
                self._sent[name] = found[name]
        for name in sorted(self._sent.keys() - found.keys()):
            self.store.remove(name)
            del self._sent[name]

    def prune(self, inside: str) -> None:
        """Remove what lies `inside` a folder of the store and not here."""
        kept = set(self._names())
        for name in self.store.names():
            if name.startswith(f"{inside}/") and name not in kept:
                self.store.remove(name)

    def _names(self) -> Iterator[str]:
        for path in self.folder.rglob("*"):
            parts = path.relative_to(self.folder).parts
            if path.is_file() and not any(part.endswith(LOCAL) for part in parts):
                yield "/".join(parts)

    def _order(self, name: str) -> tuple[int, str]:
        return (self._last.index(name) + 1 if name in self._last else 0, name)


def _version(file: Path) -> tuple[int, int]:
    """Size and time of the last change."""
    found = file.stat()
    return found.st_size, found.st_mtime_ns
