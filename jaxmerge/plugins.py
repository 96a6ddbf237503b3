"""Functions of the user's own: `module:function`, or an installed entry point."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxmerge.errors import InputError


def load_function(reference: str, folder: Path, group: str) -> Callable[..., Any]:
    """The function that a config names.

    reference: `module:function`, or the name of an entry point.
    folder: the config's folder; a module that lies there comes before an installed one.
    group: the entry points to look in, such as `jaxmerge.objectives`.
    Raises InputError where there is no such module, function or entry point.
    """
    if ":" not in reference:
        found = entry_points(group=group, name=reference)
        if not found:
            raise InputError(f"'{reference}' is neither module:function nor an entry point of {group}")
        return found[reference].load()
    function = imported(reference, folder)
    if not callable(function):
        raise InputError(f"'{reference}' is no function")
    return function


def imported(reference: str, folder: Path | None = None) -> Any:
    """What `module:attribute` refers to. folder: see `load_function`.

    Raises InputError for whatever the user's module raises while it is imported, and where it has no such attribute.
    """
    name, _, attribute = reference.partition(":")
    try:
        module = import_module(name) if folder is None else _beside(name, folder)
    except Exception as error:
        raise InputError(f"cannot import module '{name}' of '{reference}': {error}") from error
    if not hasattr(module, attribute):
        raise InputError(f"module '{name}' ({module.__file__}) has no '{attribute}'")
    return getattr(module, attribute)


def _beside(name: str, folder: Path) -> ModuleType:
    """A module beside the config is loaded from its file, so that two configs may each have a `metric.py`."""
    file = folder / f"{name}.py"
    with importable(folder):
        if not file.is_file():
            return import_module(name)
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


@contextmanager
def importable(*folders: Path) -> Iterator[None]:
    """Inside the block, modules that lie in the folders can be imported. They stand last: they shadow nothing
    installed."""
    entries = [str(folder.resolve()) for folder in folders]
    sys.path.extend(entries)
    try:
        yield
    finally:
        for entry in entries:
            sys.path.remove(entry)
