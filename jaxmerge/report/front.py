"""The front of a search with several objectives: what can be had of one for how much of the other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxmerge.report.charts import axis_label
from jaxmerge.report.scale import Scale
from jaxmerge.report.svg import Frame, text, ticks
from jaxmerge.search.history import Generation

# Points of the population that are drawn behind the front, and rows of its table.
_POINTS, _ROWS = 500, 40


@dataclass(frozen=True)
class Point:
    """A candidate of the front. search, test: its scores by objective; test may be empty. chosen: it is the winner."""

    name: str
    search: dict[str, float]
    test: dict[str, float]
    chosen: bool


@dataclass(frozen=True)
class Front:
    """objectives: the first two span the picture. points: by the first objective, ascending."""

    objectives: tuple[str, ...]
    points: tuple[Point, ...]


def front_of(summary: Mapping[str, Any] | None, config: Mapping[str, Any]) -> Front | None:
    """The summary's front, or None where there is none of at least two objectives."""
    entries = (summary or {}).get("front")
    names = tuple(str(o.get("name")) for o in config.get("objectives") or [])
    if not isinstance(entries, list) or not entries or len(names) < 2:
        return None
    best = (summary or {}).get("best") or {}
    chosen = f"{best.get('stage')}:{best.get('generation')}:{best.get('index')}"
    points = [
        Point(name, _scores(entry.get("search")), _scores(entry.get("test")), name == chosen)
        for entry in entries
        if isinstance(entry, Mapping) and (name := str(entry.get("candidate")))
    ]
    points = sorted((p for p in points if set(names[:2]) <= set(p.search)), key=lambda p: p.search[names[0]])
    if not points:
        return None
    return Front(names, tuple(points))


def rows(front: Front) -> list[Point]:
    """The points that stand in the table: all, or evenly some and the winner."""
    every = -(-len(front.points) // _ROWS)
    return [point for place, point in enumerate(front.points) if point.chosen or place % every == 0]


def picture(front: Front, generations: Sequence[Generation], scales: Mapping[str, Scale]) -> str:
    """The front over the population, first objective across and second up."""
    across, up = front.objectives[:2]
    others = [
        (r.scores[across], r.scores[up])
        for generation in generations
        for r in generation.results
        if r.scores.get(across) is not None and r.scores.get(up) is not None
    ]
    cloud = np.array(others, np.float64).reshape(-1, 2)
    own = np.array([(p.search[across], p.search[up]) for p in front.points])
    everything = np.vstack([cloud, own])
    low, high = everything.min(axis=0), everything.max(axis=0)
    room = np.where(high > low, 0.06 * (high - low), 0.01)
    (left, bottom), (right, top) = (low - room).tolist(), (high + room).tolist()
    frame = Frame((left, right), (bottom, top), 300)
    marks = ticks(bottom, top, 6)
    for value in marks:
        frame.rule(value, axis_label(value, marks, scales[up]))
    marks = ticks(left, right, 6)
    for value in marks:
        frame.mark(value, axis_label(value, marks, scales[across]))
    for x, y in cloud[:: len(cloud) // _POINTS + 1].tolist():
        frame.point(x, y, 2, "dot quiet")
    frame.line(own[:, 0].tolist(), own[:, 1].tolist(), "evolved thin")
    for point, (x, y) in zip(front.points, own.tolist(), strict=True):
        note = f"{point.name}: {across} {scales[across].score(x)}, {up} {scales[up].score(y)}"
        frame.point(x, y, 7 if point.chosen else 4.5, "dot evolved" + (" chosen" if point.chosen else ""), note)
    frame.add(text(up, x="0", y="-8", class_="tick"), text(across, x="100%", y=frame.height - 8, class_="tick end"))
    return frame.svg(f"Pareto front of {across} and {up}", below=26)


def _scores(value: Any) -> dict[str, float]:
    if not isinstance(value, Mapping):
        return {}
    return {str(name): float(score) for name, score in value.items() if isinstance(score, int | float)}
