"""Folders that appear complete or not at all."""

import errno
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxmerge.converters.reference import Location
from jaxmerge.errors import InputError, JaxmergeError

FULL = (errno.ENOSPC, errno.EDQUOT)
# In a folder that is being made: what it is made of.
STAMP = ".unfinished"


def require_absent(folder: Path, *, force: bool | None) -> None:
    """Refuse an output that exists, unless it may be replaced. An empty folder counts as absent. force: None where the
    caller replaces nothing."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        remedy = "name another output" + (" or replace it with --force" if force is False else "")
        raise InputError(f"{folder}: exists; {remedy}")
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder as output")


def require_apart(folder: Path, sources: Iterable[Location]) -> None:
    """Refuse an output whose replacement would take one of the models with it that it is made of."""
    own = folder.resolve()
    for source in sources:
        for place in filter(None, (source.folder, source.adapter)):
            if own == place.resolve():
                raise InputError(f"{folder}: is itself what the output is made of; name another output")
            if own in place.resolve().parents:
                raise InputError(f"{folder}: contains {place}, of which the output is made; name another output")


@contextmanager
def output_folder(
    folder: Path, *, force: bool = False, stamp: str | None = None, resume: bool = False
) -> Iterator[Path]:
    """An empty folder beside `folder` that takes its name when the block ends well, else it is removed.

    With `force` an existing folder is replaced, at the end only; of a link what it leads to. stamp, resume: see
    `folder_beside`. InputError naming the folder where it exists, cannot be written, or the disk is full.
    """
    folder = Path(os.path.realpath(folder))
    old = folder.with_name(f".{folder.name}.old")
    # What a run left that was killed, about to replace the folder.
    if old.exists() and not folder.exists():
        old.rename(folder)
    require_absent(folder, force=force)
    with folder_beside(folder, "tmp", stamp=stamp, resume=resume) as part:
        try:
            yield part
            (part / STAMP).unlink(missing_ok=True)
            _put_in_place(part, folder, old)
        except JaxmergeError as error:
            # The user knows the folder by its final name.
            raise type(error)(str(error).replace(str(part), str(folder))) from error


@contextmanager
def folder_beside(folder: Path, what: str, *, stamp: str | None = None, resume: bool = False) -> Iterator[Path]:
    """A folder on the disk of `folder` for what is needed to make it, removed when the block ends. what: a word in its
    name, which begins with a dot.

    It is empty, unless `resume` finds what a run left that was of the same `stamp`; then it also stays where the block
    ends with an error. InputError where what was left has another."""
    folder = Path(os.path.abspath(folder))
    beside = folder.with_name(f".{folder.name}.{what}")
    with full_disk_named(folder):
        if not (resume and _left(beside, folder, stamp)):
            try:
                _remove(beside)
                beside.mkdir(parents=True)
                if stamp is not None:
                    (beside / STAMP).write_text(stamp, encoding="utf-8")
            except OSError as error:
                if error.errno in FULL:
                    raise
                raise InputError(f"{folder}: cannot be written ({error.strerror}); name another output") from error
        try:
            yield beside
        except BaseException:
            if not resume:
                _remove(beside)
            raise
        _remove(beside)


def _left(beside: Path, folder: Path, stamp: str | None) -> bool:
    """Whether there is something that a run left, which goes on."""
    try:
        found = (beside / STAMP).read_text(encoding="utf-8")
    except OSError:
        return False
    if found != stamp:
        raise InputError(
            f"{folder}: what was begun is of another recipe or seed, or of models that have changed since; leave out "
            "--resume to begin again"
        )
    return True


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn the system's 'no space left' into an InputError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise InputError(f"{folder}: no space left on the device; free some") from error
        raise


def _put_in_place(part: Path, folder: Path, old: Path) -> None:
    if not folder.exists():
        part.rename(folder)
        return
    # Two renames: a folder that is not empty cannot be replaced by one.
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        part.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder into which the threads of a write that failed may still be writing."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.05)
