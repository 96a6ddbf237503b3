"""best.yaml: the winner's recipe with all that it is made of, in one file that can be moved.

What an earlier stage found is a document of its own, by the stage's name, and not the folder where the stage wrote it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxmerge.converters.reference import spelled_out
from jaxmerge.documents import Document, write_documents
from jaxmerge.recipe.location import moved
from jaxmerge.recipe.renaming import parts, references_in, renamed
from jaxmerge.search.config import MERGED, EvolveConfig
from jaxmerge.search.engine import Engine
from jaxmerge.search.folder import RunFolder

HEADER = "# The best recipe of the run, as mergekit reads it; `jaxmerge merge` gives the model again.\n"
REPEATED = (
    "# The best recipe of the run; `jaxmerge merge` gives the model again. mergekit cannot: it ignores kv_heads, the\n"
    "# number to which key and value heads are repeated, and would join layers that do not fit together.\n"
)


def best_recipe(recipe: Sequence[dict[str, Any]], home: Path, config: EvolveConfig) -> str:
    """The text of best.yaml: the documents of a recipe, before them those of the stages that they use, each once.

    home: the run's folder. config: resolved. What a stage made and its recipe does not lie beside stays a path."""
    used = {reference for document in recipe for reference in references_in(document)}
    before: dict[str, dict[str, Any]] = {}
    alone: dict[str, str] = {}
    for stage in config.earlier:
        model = config.models[stage]
        best = RunFolder(Path(model).parent).best
        if stage in used and best.is_file():
            before |= {document["name"]: document for document in _of_stage(best, stage)}
        else:
            alone[stage] = model
    whole = renamed([*before.values(), *recipe], lambda reference: alone.get(reference, reference))
    header = REPEATED if any("kv_heads" in document.get("jaxmerge", {}) for document in whole) else HEADER
    return header + write_documents([_located(document, home.resolve()) for document in whole])


def with_adapters(recipe: Sequence[dict[str, Any]], engine: Engine, folder: RunFolder) -> list[dict[str, Any]]:
    """The documents of a recipe with the LoRAs that it names in files of the run's folder."""
    found = engine.adapted(folder.adapters)
    if found:
        folder.replace(folder.adapters, engine.write_adapters)
    return [renamed(document, lambda reference: found.get(reference, reference)) for document in recipe]


def _of_stage(best: Path, stage: str) -> list[dict[str, Any]]:
    """A stage's best.yaml, whose last document gets the stage's name. The merge of a joint search has one name in all
    of them; no stage's own has a dot. What was moved together with the stage is named where it is now."""
    *parts, last = (_at(document.data, best.parent) for document in Document.read_all(best))
    merged = f"{stage}.{MERGED}"

    def own(reference: str) -> str:
        return merged if reference == MERGED else reference

    found = [renamed(part, own) | {"name": own(part["name"])} for part in parts]
    return [*found, {"name": stage} | renamed(last, own)]


def _at(document: dict[str, Any], home: Path) -> dict[str, Any]:
    """The document with references that hold, read from a recipe in `home`."""
    beside = document.get("jaxmerge", {}).get("beside", {})

    def here(reference: str) -> str:
        there = moved(reference, beside, home)
        return reference if there is None else spelled_out(there, home)

    found: dict[str, Any] = renamed(document, here)
    return found


def _located(document: dict[str, Any], home: Path) -> dict[str, Any]:
    """Paths are absolute, so that a recipe is read from anywhere, by mergekit too, and its folder may be moved; where
    they also lie from it is noted, so that it may be moved together with them."""
    def from_home(part: str) -> str:
        return os.path.relpath(part, home) if _together(Path(part), home) else part

    seen = {reference: "+".join(map(from_home, parts(reference))) for reference in references_in(document)}
    own = {key: value for key, value in document.get("jaxmerge", {}).items() if key != "beside"}
    beside = {reference: there for reference, there in seen.items() if there != reference}
    return {**document, "jaxmerge": own | ({"beside": beside} if beside else {})}


def _together(path: Path, home: Path) -> bool:
    return path.is_absolute() and path.drive == home.drive and os.path.commonpath((path, home)) != path.anchor
