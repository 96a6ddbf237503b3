"""A run's folder, read for the report; a run that is still going on may lack its summary and best recipe."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxmerge.documents import Document
from jaxmerge.errors import InputError


@dataclass(frozen=True)
class Candidate:
    """One line of the history, as far as the report needs it. score: None where the candidate failed."""

    stage: str
    generation: int
    index: int
    score: float | None
    seconds: float


@dataclass(frozen=True)
class RecipeTable:
    """The evolved parameters. parameters: name -> `[groups][columns]`, one column an expert, or a single one."""

    groups: tuple[str, ...]
    experts: tuple[str, ...]
    parameters: dict[str, tuple[tuple[float, ...], ...]]


@dataclass(frozen=True)
class RunData:
    """folder: the run. summary: None while the run goes on.
    config_text, recipe_text: config.yaml and best.yaml as written; "" where there is no best recipe yet."""

    folder: Path
    config: dict[str, Any]
    config_text: str
    history: tuple[Candidate, ...]
    summary: dict[str, Any] | None
    recipe: RecipeTable | None
    recipe_text: str


def read_run(folder: Path) -> RunData:
    """Read a run's folder. Raises InputError where it is none, or where a file in it cannot be understood."""
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; name the OUT of a `jaxmerge evolve`")
    config_text = _text(folder / "config.yaml")
    config = _yaml(folder / "config.yaml", config_text)
    if not (isinstance(config.get("models"), dict) and "space" in config and "search" in config):
        raise InputError(f"{folder}: not a run's folder (no config.yaml of a run); name the OUT of a `jaxmerge evolve`")
    recipe_text = _text(folder / "best.yaml")
    return RunData(
        folder=folder,
        config=config,
        config_text=config_text,
        history=_history(folder / "history.jsonl"),
        summary=_summary(folder / "summary.json"),
        recipe=recipe_table(_yaml(folder / "best.yaml", recipe_text)),
        recipe_text=recipe_text,
    )


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


def _text(file: Path) -> str:
    """The file's text, or "" where it does not exist."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error


def _yaml(file: Path, text: str) -> dict[str, Any]:
    content = Document.parse(text, file).data
    return content if isinstance(content, dict) else {}


def _summary(file: Path) -> dict[str, Any] | None:
    text = _text(file)
    if not text:
        return None
    try:
        summary = json.loads(text)
    except ValueError as error:
        raise InputError(f"{file}: not valid JSON ({error}); run the same `jaxmerge evolve` again") from error
    if not isinstance(summary, dict):
        raise InputError(f"{file}: must be a mapping; run the same `jaxmerge evolve` again")
    return summary


def _history(file: Path) -> tuple[Candidate, ...]:
    """All complete lines. The last one may be half-written: a run can be killed, or be writing just now."""
    lines = _text(file).split("\n")[:-1]
    candidates = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
            candidates.append(
                Candidate(
                    stage=str(entry["stage"]),
                    generation=int(entry.get("generation") or 0),
                    index=int(entry.get("index") or 0),
                    score=None if entry.get("score") is None else float(entry["score"]),
                    seconds=float(entry.get("seconds") or 0),
                )
            )
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{file}:{number}: not a line of a run's history ({error!r})") from error
    return tuple(candidates)
