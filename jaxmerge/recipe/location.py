"""Where the references of a recipe lead."""

from collections.abc import Mapping
from pathlib import Path

from jaxmerge.converters.reference import Location, present, resolve
from jaxmerge.documents import Document
from jaxmerge.recipe.renaming import is_here
from jaxmerge.recipe.schema import Recipe


def located(reference: str, recipe: Recipe, document: Document) -> Location:
    """Fetched from the hub where it is not here. Raises InputError as `resolve`."""
    spelt, bases = _spelt(reference, recipe, document)
    return resolve(spelt, relative_to=bases)


def located_here(reference: str, recipe: Recipe, document: Document) -> Location | None:
    """None for what is to be fetched. Raises InputError for what can only be a folder and is none."""
    spelt, bases = _spelt(reference, recipe, document)
    return present(spelt, relative_to=bases)


def moved(reference: str, beside: Mapping[str, str], home: Path) -> str | None:
    """How the reference is to be spelt from a recipe's folder `home`, where the recipe was moved, and the model with
    it; else None. beside: as the recipe notes it."""
    there = beside.get(reference)
    return there if there is not None and not is_here(reference, Path()) and is_here(there, home) else None


def _spelt(reference: str, recipe: Recipe, document: Document) -> tuple[str, tuple[Path, ...]]:
    """The reference, and the folders where it is tried."""
    home = document.file.parent
    there = moved(reference, recipe.jaxmerge.beside, home)
    return (reference, (Path(), home)) if there is None else (there, (home,))
