"""Folders that appear complete or not at all."""

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxmerge.errors import InputError


def require_absent(folder: Path, *, force: bool) -> None:
    """Refuse an output that exists, unless it may be replaced. An empty folder counts as absent."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise InputError(f"{folder}: exists; name another output or replace it with --force")
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; name a folder as output")


@contextmanager
def output_folder(folder: Path, *, force: bool = False) -> Iterator[Path]:
    """An empty folder beside `folder` that takes its name when the block ends well, else it is removed.

    With `force` an existing folder is replaced, at the end only. A full disk is an InputError naming the
    folder.
    """
    folder = Path(os.path.abspath(folder))
    require_absent(folder, force=force)
    part = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    with full_disk_named(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            part.mkdir()
        except PermissionError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); name another") from error
        try:
            yield part
            _put_in_place(part, folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn the system's 'no space left' into an InputError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{folder}: no space left on the device; free some") from error
        raise


def _put_in_place(part: Path, folder: Path) -> None:
    if not folder.exists():
        part.rename(folder)
        return
    # Two renames: a folder that is not empty cannot be replaced by one.
    old = part.with_suffix(".old")
    folder.rename(old)
    try:
        part.rename(folder)
    except BaseException:
        with contextlib.suppress(OSError):
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
