"""A run's folder, read for the report; a run that is still going on may lack its summary and best recipe."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxmerge.documents import Document
from jaxmerge.errors import InputError
from jaxmerge.search.config import RANDOM_SEARCH, start_of
from jaxmerge.search.folder import RunFolder
from jaxmerge.search.history import Generation, History


@dataclass(frozen=True)
class RecipeTable:
    """The evolved parameters. parameters: name -> `[groups][columns]`, one column an expert, or a single one."""

    groups: tuple[str, ...]
    experts: tuple[str, ...]
    parameters: dict[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True)
class Hop:
    """One layer of a data flow. model: as the config names it. scale: of its input, None where it has none."""

    model: str
    layer: int
    scale: float | None = None


@dataclass(frozen=True)
class RunData:
    """folder: the run. summary: None while the run goes on.
    path: the hops of a data flow, pool: layers of its models by name; empty for other recipes.
    history: the generations that are complete, in the order they were written; without the candidate that the search
    set out from, which stands in first where it was scored.
    config_text, recipe_text: config.yaml and best.yaml as written; "" where there is no best recipe yet."""

    folder: Path
    config: dict[str, Any]
    config_text: str
    history: tuple[Generation, ...]
    summary: dict[str, Any] | None
    recipe: RecipeTable | None
    path: tuple[Hop, ...]
    pool: dict[str, int]
    recipe_text: str
    first: tuple[Generation, ...] = ()

    @property
    def best(self) -> np.ndarray | None:
        """The winner's genome, None while there is none."""
        place = (self.summary or {}).get("best") or {}
        for generation in (*self.first, *self.history):
            if (generation.stage, generation.number) == (place.get("stage"), place.get("generation")):
                return generation.genomes[place["index"]]
        return None


def read_run(folder: Path) -> RunData:
    """Read a run's folder. Raises InputError where it is none, or where a file in it cannot be understood."""
    files = RunFolder.at(folder)
    files.require_run()
    config_text = _text(files.config)
    config = _yaml(files.config, config_text)
    search = config.get("search")
    population = search.get("population") if isinstance(search, dict) else None
    whole = isinstance(config.get("models"), dict) and isinstance(config.get("space"), dict)
    if not whole or not isinstance(population, int):
        raise InputError(f"{files.config}: is not the config of a run; name the OUT of jaxmerge evolve")
    history = History.read(files.history, population, files.populations())
    recipe_text = _text(files.best) if files.best.exists() else ""
    recipe = _yaml(files.best, recipe_text)
    return RunData(
        folder=folder,
        config=config,
        config_text=config_text,
        history=_own(history, config, files.whole is not None),
        first=tuple(history.stage(start_of(_stage(config)))),
        summary=files.read_summary(),
        recipe=recipe_table(recipe),
        path=data_flow(recipe, config),
        pool={str(name): int(depth) for name, depth in ((recipe.get("jaxmerge") or {}).get("pool") or {}).items()},
        recipe_text=recipe_text,
    )


def _own(history: History, config: Mapping[str, Any], is_stage: bool) -> tuple[Generation, ...]:
    """The generations of a run and of the stages before it; a stage shares its file with those after it."""
    stages = {*(config.get("earlier") or ()), _stage(config)}
    stages |= set() if is_stage else {RANDOM_SEARCH}
    return tuple(generation for generation in history.generations if generation.stage in stages)


def _stage(config: Mapping[str, Any]) -> str:
    return str(config.get("name") or config["space"].get("kind", "parameter"))


def recipe_table(recipe: Mapping[str, Any]) -> RecipeTable | None:
    """The `jaxmerge:` key of a best recipe as a table, or None where it has no groups."""
    ours = recipe.get("jaxmerge")
    if not isinstance(ours, Mapping) or not isinstance(ours.get("parameters"), Mapping) or not ours.get("groups"):
        return None
    groups = tuple(str(group) for group in ours["groups"])
    parameters = {}
    for name, rows in ours["parameters"].items():
        if isinstance(rows, list) and len(rows) == len(groups):
            parameters[str(name)] = tuple(tuple(map(float, r if isinstance(r, list) else [r])) for r in rows)
    return RecipeTable(groups, tuple(str(expert) for expert in ours.get("experts") or ()), parameters)


def data_flow(recipe: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[Hop, ...]:
    """The path of a passthrough recipe whose slices are single layers, or nothing. The scales of hops stand under
    `jaxmerge: {scales: [...]}`, for in mergekit's own parameters they are folded into several tensors."""
    slices = recipe.get("slices")
    if not isinstance(slices, list) or not slices:
        return ()
    names = {str(ref): name for name, ref in (config.get("models") or {}).items()}
    hops = []
    for part in slices:
        sources = part.get("sources") if isinstance(part, Mapping) else None
        if not isinstance(sources, list) or len(sources) != 1:
            return ()
        first, end = sources[0].get("layer_range") or (0, 0)
        reference = str(sources[0].get("model"))
        hops += [Hop(names.get(reference, Path(reference).name), layer) for layer in range(first, end)]
    scales = (recipe.get("jaxmerge") or {}).get("scales")
    if isinstance(scales, list) and len(scales) == len(hops):
        hops = [Hop(hop.model, hop.layer, float(scale)) for hop, scale in zip(hops, scales, strict=True)]
    return tuple(hops)


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error


def _yaml(file: Path, text: str) -> dict[str, Any]:
    # Of a recipe of several merges the last, which says it all.
    content = Document.parse_all(text, file)[-1].data
    return content if isinstance(content, dict) else {}
